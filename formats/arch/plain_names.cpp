#include "formats/arch/plain_names.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "formats/arch/identify.h"

namespace rwkv {
namespace {

// What wrappers of modules add in the middle of names.
constexpr std::array<std::string_view, 3> kWrappers = {"_orig_mod.", "_fsdp_wrapped_module.",
                                                       "_checkpoint_wrapped_module."};
constexpr std::array<std::string_view, 2> kEmbeddings = {"emb.weight", "embeddings.weight"};
constexpr std::array<std::string_view, 2> kHeads = {"head.weight", "lm_head.weight"};

// `name` without "_orig_mod." and the like, wherever they stand as components.
std::string without_wrappers(std::string name) {
  for (const std::string_view wrapper : kWrappers) {
    for (size_t at = 0; (at = name.find(wrapper, at)) != std::string::npos;) {
      if (at == 0 || name[at - 1] == '.') {
        name.erase(at, wrapper.size());
      } else {
        at += wrapper.size();
      }
    }
  }
  return name;
}

// What stands in front of `end` if `name` ends in it as whole components.
std::optional<std::string_view> in_front_of(std::string_view name, std::string_view end) {
  if (!name.ends_with(end)) {
    return std::nullopt;
  }
  const std::string_view front = name.substr(0, name.size() - end.size());
  return front.empty() || front.back() == '.' ? std::optional(front) : std::nullopt;
}

// The head may stand outside of the body, with less of the prefix: "head.weight" next to
// "rwkv.embeddings.weight".
bool is_head_outside(std::string_view name, std::string_view prefix) {
  return std::any_of(kHeads.begin(), kHeads.end(), [&](std::string_view head) {
    const auto front = in_front_of(name, head);
    return front && prefix.starts_with(*front);
  });
}

// The prefix that the embedding has and all other names share, "" if there is none.
std::string common_prefix(std::span<const std::string> names) {
  for (const std::string& name : names) {
    for (const std::string_view embedding : kEmbeddings) {
      const auto prefix = in_front_of(name, embedding);
      if (prefix && !prefix->empty() &&
          std::all_of(names.begin(), names.end(), [&](const std::string& other) {
            return other.starts_with(*prefix) || is_head_outside(other, *prefix);
          })) {
        return std::string(*prefix);
      }
    }
  }
  return "";
}

std::string without_prefix(const std::string& name, std::string_view prefix) {
  if (name.starts_with(prefix)) {
    return name.substr(prefix.size());
  }
  for (const std::string_view head : kHeads) {
    if (in_front_of(name, head)) {
      return std::string(head);
    }
  }
  return name;
}

// "blocks.12.att.key.weight" as "12" and "att.key.weight"; nothing for other names.
struct BlockName {
  std::string_view number;
  std::string_view rest;
};
std::optional<BlockName> split_block(std::string_view name, std::string_view block) {
  if (!name.starts_with(block)) {
    return std::nullopt;
  }
  const size_t dot = name.find('.', block.size());
  const std::string_view number = name.substr(block.size(), dot - block.size());
  const bool is_number = !number.empty() && std::all_of(number.begin(), number.end(), [](char c) {
    return c >= '0' && c <= '9';
  });
  if (dot == std::string_view::npos || !is_number) {
    return std::nullopt;
  }
  return BlockName{number, name.substr(dot + 1)};
}

class Namer {
 public:
  Namer(std::span<const TensorInfo> tensors, const NameOptions& options)
      : tensors_(tensors), options_(options) {}
  Result<PlainNames> run();

 private:
  void strip_prefix();
  void find_dialect();
  Status rename();
  Status rename_one(size_t index);
  Status split_joint(size_t index, const ForeignName& row, const std::string& plain);
  void rename_bonus();
  Status turn_small();
  void tie_head();
  Status check_unique() const;
  const TensorInfo* find(std::string_view name) const;

  std::span<const TensorInfo> tensors_;
  NameOptions options_;
  std::vector<std::string> names_;  ///< without wrappers and prefix
  PlainNames result_;
};

const TensorInfo* Namer::find(std::string_view name) const {
  const auto found =
      std::find_if(result_.tensors.begin(), result_.tensors.end(),
                   [&](const PlainTensor& tensor) { return tensor.info.name == name; });
  return found == result_.tensors.end() ? nullptr : &found->info;
}

void Namer::strip_prefix() {
  bool has_wrapper = false;
  for (const TensorInfo& tensor : tensors_) {
    names_.push_back(without_wrappers(tensor.name));
    has_wrapper |= names_.back() != tensor.name;
  }
  if (has_wrapper) {
    result_.notes.emplace_back("names of wrapped modules (_orig_mod and the like): dropped");
  }
  const std::string prefix = common_prefix(names_);
  for (std::string& name : names_) {
    name = without_prefix(name, prefix);
  }
  result_.is_changed = has_wrapper || !prefix.empty();
  find_dialect();
  // The prefix of the dialect itself is no news.
  std::string_view own = result_.dialect ? result_.dialect->prefix : "";
  std::string_view extra = prefix;
  if (!own.empty() && extra.ends_with(own)) {
    extra.remove_suffix(own.size());
  }
  if (!extra.empty()) {
    result_.notes.push_back(fmt::format("all names begin with '{}': dropped", extra));
  }
}

void Namer::find_dialect() {
  const std::unordered_set<std::string_view> names(names_.begin(), names_.end());
  for (const Dialect& dialect : dialects()) {
    const std::string mark = fmt::format("{}0.{}", dialect.block, dialect.mark);
    // Where only names outside of blocks differ, one of them must be there.
    const bool differs =
        !dialect.inside.empty() ||
        std::any_of(dialect.outside.begin(), dialect.outside.end(),
                    [&](const ForeignName& row) { return names.contains(row.theirs); });
    if (names.contains(mark) && differs) {
      result_.dialect = &dialect;
      result_.is_changed = true;
      return;
    }
  }
}

Status Namer::split_joint(size_t index, const ForeignName& row, const std::string& plain) {
  const TensorInfo& joint = tensors_[index];
  const uint64_t n = row.letters.size();
  if (joint.shape.empty() || joint.shape.front() != n) {
    return bad_input("tensor '{}' has shape {}, expected {} x n_embd; take the original checkpoint",
                     joint.name, shape_to_string(joint.shape), n);
  }
  for (uint64_t part = 0; part < n; ++part) {
    result_.tensors.push_back(
        {{plain + row.letters[part], joint.dtype, {1, 1, joint.n_elements() / n}},
         index,
         Change::Joint,
         part});
  }
  return {};
}

// The shape that reading gives. Shapes that do not fit are left alone: identify() refuses them by
// the name of the tensor.
bool change_shape(Change change, std::vector<uint64_t>& shape, uint64_t n_elements) {
  switch (change) {
    case Change::None:
    case Change::Joint:
      return true;
    case Change::Vector:
      shape = {1, 1, n_elements};
      return true;
    case Change::Transpose:
      if (shape.size() < 2) {
        return false;
      }
      std::swap(shape[shape.size() - 2], shape.back());
      return true;
    case Change::MixDown:
      if (shape.size() != 2 || shape[0] % 5 != 0) {
        return false;
      }
      std::swap(shape[0], shape[1]);
      return true;
    case Change::MixUp:
      if (shape.size() != 2 || shape[1] % 5 != 0) {
        return false;
      }
      shape = {5, shape[1] / 5, shape[0]};
      return true;
  }
  return false;
}

Status Namer::rename_one(size_t index) {
  PlainTensor tensor{tensors_[index], index};
  tensor.info.name = names_[index];
  const Dialect* dialect = result_.dialect;
  const auto block = dialect ? split_block(names_[index], dialect->block) : std::nullopt;
  const std::string_view rest = block ? block->rest : std::string_view(names_[index]);
  const ForeignName* row = dialect ? find_foreign(*dialect, block.has_value(), rest) : nullptr;
  if (!row) {
    result_.tensors.push_back(std::move(tensor));
    return {};
  }
  const std::string plain =
      block ? fmt::format("blocks.{}.{}", block->number, row->plain) : std::string(row->plain);
  if (row->change == Change::Joint) {
    return split_joint(index, *row, plain);
  }
  tensor.info.name = plain;
  if (change_shape(row->change, tensor.info.shape, tensor.info.n_elements())) {
    tensor.change = row->change;
  }
  result_.tensors.push_back(std::move(tensor));
  return {};
}

Status Namer::rename() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    RWKV_TRY(rename_one(i));
  }
  return {};
}

// Beside a decay per channel (v5.2) time_first is time_faaaa under web-rwkv's name. Per head (v5.0,
// v5.1) it is BlinkDL's, a logarithm; v4 has no ln_x.
void Namer::rename_bonus() {
  const TensorInfo* norm = find("blocks.0.att.ln_x.weight");
  const TensorInfo* decay = find("blocks.0.att.time_decay");
  if (!norm || !decay || !find("blocks.0.att.time_first") ||
      !decay_is_per_channel(*decay, norm->n_elements())) {
    return;
  }
  for (PlainTensor& tensor : result_.tensors) {
    const auto front = in_front_of(tensor.info.name, "time_first");
    if (front && front->ends_with(".att.")) {
      tensor.info.name = std::string(*front) + "time_faaaa";
    }
  }
  result_.is_changed = true;
  result_.notes.emplace_back(
      "time_first beside a decay per channel: read as time_faaaa, as web-rwkv writes it");
}

// The small matrices of v6 and v7 that web-rwkv transposes, and which of their dimensions is the
// width of the model.
struct SmallMatrix {
  std::string_view name;
  bool width_is_rows;
};
constexpr std::array kSmall = {
    SmallMatrix{"att.time_maa_w1", true},
    SmallMatrix{"att.time_maa_w2", false},
    SmallMatrix{"att.time_decay_w1", true},
    SmallMatrix{"att.time_decay_w2", false},
    SmallMatrix{"att.w1", true},
    SmallMatrix{"att.w2", false},
    SmallMatrix{"att.a1", true},
    SmallMatrix{"att.a2", false},
    SmallMatrix{"att.v1", true},
    SmallMatrix{"att.v2", false},
    SmallMatrix{"att.g1", true},
    SmallMatrix{"att.g2", false},
};

const SmallMatrix* find_small(std::string_view name) {
  const auto block = split_block(name, "blocks.");
  const auto* found = std::find_if(kSmall.begin(), kSmall.end(), [&](const SmallMatrix& row) {
    return block && row.name == block->rest;
  });
  return found == kSmall.end() ? nullptr : found;
}

Status Namer::turn_small() {
  const TensorInfo* embedding = find("emb.weight");
  const TensorInfo* norm = find("blocks.0.att.ln_x.weight");
  // Only web-rwkv's, which has no prefix, has its matrices in either way.
  const bool is_known = result_.dialect && !result_.dialect->prefix.empty();
  if (!embedding || embedding->shape.size() != 2 || !norm || is_known) {
    return {};
  }
  const TensorInfo* plain = nullptr;
  const TensorInfo* turned = nullptr;
  const TensorInfo* square = nullptr;
  for (const PlainTensor& tensor : result_.tensors) {
    const SmallMatrix* small = find_small(tensor.info.name);
    const std::vector<uint64_t>& shape = tensor.info.shape;
    if (!small || shape.size() < 2) {
      continue;
    }
    const uint64_t width = small->width_is_rows ? embedding->shape[1] : norm->n_elements();
    const bool rows = shape[shape.size() - 2] == width;
    const bool cols = shape.back() == width;
    const TensorInfo*& vote = rows && cols ? square : rows == small->width_is_rows ? plain : turned;
    if (rows || cols) {
      vote = vote ? vote : &tensor.info;
    }
  }
  if (plain && turned) {
    return bad_input(
        "tensors '{}' ({}) and '{}' ({}) lie in different ways; expected all small matrices as "
        "BlinkDL stores them or all transposed; convert the original checkpoint",
        plain->name, shape_to_string(plain->shape), turned->name, shape_to_string(turned->shape));
  }
  if (!plain && !turned && square && !options_.square_is_plain) {
    return bad_input(
        "tensor '{}' is {}, as all small matrices of this file: square, so whether it is "
        "transposed, as web-rwkv does, cannot be told; convert the original .pth",
        square->name, shape_to_string(square->shape));
  }
  if (!turned) {
    return {};
  }
  for (PlainTensor& tensor : result_.tensors) {
    const auto block = split_block(tensor.info.name, "blocks.");
    const bool is_state = block && block->rest == "att.time_state";
    if ((find_small(tensor.info.name) || is_state) && tensor.info.shape.size() >= 2) {
      std::swap(tensor.info.shape[tensor.info.shape.size() - 2], tensor.info.shape.back());
      tensor.change = Change::Transpose;
    }
  }
  result_.is_changed = true;
  result_.notes.emplace_back("small matrices lie transposed, as web-rwkv writes them: turned back");
  return {};
}

void Namer::tie_head() {
  if (!options_.tied_head || find("head.weight")) {
    return;
  }
  for (size_t i = 0; i < result_.tensors.size(); ++i) {
    if (result_.tensors[i].info.name == "emb.weight") {
      PlainTensor head = result_.tensors[i];
      head.info.name = "head.weight";
      result_.tensors.push_back(std::move(head));
      result_.is_changed = true;
      result_.notes.emplace_back("the head is the embedding (tie_word_embeddings)");
      return;
    }
  }
}

Status Namer::check_unique() const {
  std::unordered_map<std::string_view, size_t> seen;
  for (const PlainTensor& tensor : result_.tensors) {
    const auto [earlier, is_new] = seen.emplace(tensor.info.name, tensor.from);
    if (!is_new) {
      return bad_input("tensors '{}' and '{}' are both {}; remove one of them",
                       tensors_[earlier->second].name, tensors_[tensor.from].name,
                       tensor.info.name);
    }
  }
  return {};
}

Result<PlainNames> Namer::run() {
  strip_prefix();
  if (result_.dialect) {
    result_.notes.push_back(fmt::format("names of {}: read as BlinkDL's", result_.dialect->name));
  }
  RWKV_TRY(rename());
  rename_bonus();
  RWKV_TRY(turn_small());
  tie_head();
  RWKV_TRY(check_unique());
  return std::move(result_);
}

}  // namespace

Result<PlainNames> find_plain_names(std::span<const TensorInfo> tensors,
                                    const NameOptions& options) {
  return Namer(tensors, options).run();
}

}  // namespace rwkv

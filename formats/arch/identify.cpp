#include "formats/arch/identify.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "formats/arch/binder.h"
#include "formats/arch/order_of_use.h"
#include "formats/arch/versions.h"

namespace rwkv {
namespace {

constexpr uint64_t kMaxLayers = 1024;

// N of "blocks.N.rest", or -1.
int64_t block_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blocks.";
  if (!name.starts_with(kPrefix)) {
    return -1;
  }
  int64_t block = -1;
  const char* begin = name.data() + kPrefix.size();
  const auto [end, error] = std::from_chars(begin, name.data() + name.size(), block);
  const bool plain = error == std::errc() && end != name.data() + name.size() && *end == '.' &&
                     block >= 0 && (*begin != '0' || end == begin + 1);
  return plain ? block : -1;
}

Result<uint64_t> count_layers(std::span<const TensorInfo> tensors) {
  int64_t last = -1;
  for (const TensorInfo& tensor : tensors) {
    last = std::max(last, block_of(tensor.name));
  }
  if (last < 0) {
    return bad_input(
        "expected an RWKV checkpoint (tensors 'blocks.0.*', or the names of Hugging Face, "
        "flash-linear-attention or web-rwkv), found {} tensors{}{}; name another file (rwkv-press "
        "inspect lists the tensors of this one)",
        tensors.size(), tensors.empty() ? "" : ", the first is ",
        tensors.empty() ? "" : tensors.front().name);
  }
  if (static_cast<uint64_t>(last) >= kMaxLayers) {
    return bad_input(
        "block number {} found, at most {} blocks are accepted; take the original checkpoint", last,
        kMaxLayers);
  }
  return static_cast<uint64_t>(last) + 1;
}

// Versions that are recognised only to be refused: part of a name that no other version has.
struct UnsupportedVersion {
  std::string_view mark;
  const char* what;
};
constexpr UnsupportedVersion kUnsupported[] = {
    {".rosa.", "RWKV-8 (ROSA: a suffix automaton in place of time_mix)"},
    {".ffn.enn.", "RWKV-8 (DeepEmbed that multiplies the output of channel_mix)"},
    {".qkv.", "v7b (DeepEmbed with DEA: attention over all tokens beside time_mix)"},
};

Status refuse_unsupported(const TensorIndex& index) {
  for (const UnsupportedVersion& version : kUnsupported) {
    for (size_t i = 0; i < index.size(); ++i) {
      if (block_of(index.at(i).name) >= 0 &&
          index.at(i).name.find(version.mark) != std::string::npos) {
        return bad_input(
            "tensor '{}': this is {}, which is not supported; expected v4 to v7 or v7a; take a "
            "model of one of these, or run this one with its author's program",
            index.at(i).name, version.what);
      }
    }
  }
  return {};
}

Result<Version> decide_version(const TensorIndex& index) {
  const auto has = [&](const char* name) {
    return index.find(std::string("blocks.0.att.") + name) != nullptr;
  };
  if (has("r_k")) {
    // Either of them, so that a missing one is missed.
    const bool has_deep_embed =
        index.find("blocks.0.ffn.s_emb.weight") || index.find("blocks.0.ffn.s1");
    return has_deep_embed ? Version::V7a : Version::V7;
  }
  if (has("time_maa_x") || has("time_maa_w1")) {
    return Version::V6;
  }
  if (!has("ln_x.weight")) {
    return Version::V4;
  }
  if (!has("gate.weight") && !has("gate1.weight")) {
    return Version::V5_0;
  }
  const TensorInfo* decay = index.find("blocks.0.att.time_decay");
  if (!decay) {
    return bad_input(
        "tensor 'blocks.0.att.time_decay' is missing, expected in every v5; take the original "
        "checkpoint");
  }
  const uint64_t n_channels = index.find("blocks.0.att.ln_x.weight")->n_elements();
  return decay_is_per_channel(*decay, n_channels) ? Version::V5_2 : Version::V5_1;
}

// Names that real files carry besides the model and that nothing here uses.
bool is_known_extra(std::string_view name) {
  constexpr std::string_view kExtras[] = {"head_l1.weight", "head_l1fc1.weight",
                                          "head_l1fc2.weight"};
  return std::find(std::begin(kExtras), std::end(kExtras), name) != std::end(kExtras) ||
         name.ends_with(".mlp.fc1.weight") || name.ends_with(".mlp.fc2.weight");
}

Status bind_all(Binder& binder, Version version, uint64_t n_layer) {
  const auto bind_where = [&](std::span<const TensorSpec> table, int64_t block,
                              auto wanted) -> Status {
    for (size_t i = 0; i < table.size(); ++i) {
      const TensorSpec& spec = table[i];
      if ((spec.versions & only(version)) == 0 || !wanted(spec)) {
        continue;
      }
      const bool has_alternative = spec.presence == Presence::Alternative;
      RWKV_TRY(binder.bind(spec, has_alternative ? &table[i + 1] : nullptr, block));
      i += has_alternative ? 1 : 0;
    }
    return {};
  };
  const std::span<const TensorSpec> table = version_traits(version).tensors();
  const auto is_embedding = [](const TensorSpec& spec) { return spec.role == Role::Embedding; };
  RWKV_TRY(bind_where(table, -1, is_embedding));
  for (uint64_t block = 0; block < n_layer; ++block) {
    const auto is_in_block = [&](const TensorSpec& spec) {
      return spec.where == Where::EveryBlock || spec.where == Where::LaterBlocks ||
             (spec.where == Where::FirstBlock && block == 0);
    };
    RWKV_TRY(bind_where(table, static_cast<int64_t>(block), is_in_block));
    RWKV_TRY(bind_where(tensors_of_stages(), static_cast<int64_t>(block), is_in_block));
  }
  const auto is_of_model = [&](const TensorSpec& spec) {
    return spec.where == Where::Model && !is_embedding(spec);
  };
  RWKV_TRY(bind_where(tensors_of_stages(), -1, is_of_model));
  return bind_where(table, -1, is_of_model);
}

// Names and shapes against the tables of the version; what is left over is refused.
Status bind_checked(Binder& binder, const TensorIndex& index, Version version, uint64_t n_layer) {
  RWKV_TRY(binder.derive_sizes());
  RWKV_TRY(bind_all(binder, version, n_layer));
  for (size_t i = 0; i < index.size(); ++i) {
    if (binder.is_bound(i)) {
      continue;
    }
    const TensorInfo& tensor = index.at(i);
    if (!is_known_extra(tensor.name)) {
      return bad_input(
          "tensor '{}' ({}) has no place in {}, expected the tensors of that version alone",
          tensor.name, shape_to_string(tensor.shape), version_traits(version).name);
    }
    binder.bind_ignored(i, block_of(tensor.name));
  }
  return binder.check_sets();
}

// Every refusal of bind_checked() has the same ways out.
Status with_advice(const Status& status, ShapesAre shapes) {
  return bad_input(
      "{}; {}", status.message(),
      shapes == ShapesAre::AsPacked
          ? "convert the original checkpoint again"
          : "take the original checkpoint (a script has cut or changed this one, or it "
            "was merged from models of other sizes)");
}

}  // namespace

// With a single head only the number of channels tells [1,N] from [1,H].
bool decay_is_per_channel(const TensorInfo& decay, uint64_t n_channels) {
  const auto n_dims =
      std::count_if(decay.shape.begin(), decay.shape.end(), [](uint64_t dim) { return dim != 1; });
  return n_dims >= 2 ||
         (n_dims == 1 && decay.shape.size() >= 2 && decay.n_elements() == n_channels);
}

std::vector<uint64_t> TensorBinding::packed_shape() const {
  std::vector<uint64_t> packed = shape;
  if (layout == Layout::Transposed) {
    std::swap(packed[packed.size() - 1], packed[packed.size() - 2]);
  }
  return packed;
}

uint64_t TensorBinding::packed_cols() const {
  return layout == Layout::Transposed ? shape[shape.size() - 2] : shape.back();
}

uint64_t TensorBinding::packed_rows() const {
  uint64_t n = 1;
  for (const uint64_t dim : shape) {
    n *= dim;
  }
  return n / packed_cols();
}

Result<Identified> identify(std::span<const TensorInfo> tensors, ShapesAre shapes) {
  TensorIndex index(tensors);
  RWKV_ASSIGN(const uint64_t n_layer, count_layers(tensors));
  RWKV_TRY(refuse_unsupported(index));
  RWKV_ASSIGN(const Version version, decide_version(index));
  Binder binder(index, version, n_layer, shapes);
  if (const Status status = bind_checked(binder, index, version, n_layer); !status.ok()) {
    return with_advice(status, shapes);
  }
  Identified model = binder.take();
  sort_by_use(model.tensors);
  return model;
}

}  // namespace rwkv

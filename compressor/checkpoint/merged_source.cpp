#include "compressor/checkpoint/merged_source.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "compressor/checkpoint/adapter.h"
#include "compressor/checkpoint/adapter_change.h"

namespace rwkv::press {
namespace {

struct Entry {
  TensorInfo info;
  Place from;
  std::vector<Change> changes;
};

class MergedSource final : public TensorSource {
 public:
  MergedSource(std::unique_ptr<TensorSource> base, std::vector<OpenedAdapter> adapters,
               std::vector<Entry> entries)
      : base_(std::move(base)), adapters_(std::move(adapters)), entries_(std::move(entries)) {
    for (const Entry& entry : entries_) {
      infos_.push_back(entry.info);
    }
  }

  std::string_view format() const override { return base_->format(); }
  const std::string& path() const override { return base_->path(); }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::map<std::string, std::string> metadata() const override { return base_->metadata(); }

  Status read(size_t index, std::vector<std::byte>& out) const override {
    const Entry& entry = entries_[index];
    if (entry.changes.empty()) {
      return entry.from.source->read(entry.from.index, out);
    }
    RWKV_ASSIGN(const std::vector<float> values, values_of(entry.from));
    std::vector<double> w(values.begin(), values.end());
    for (const Change& change : entry.changes) {
      RWKV_TRY(apply(change, entry.info.shape.back(), w));
    }
    const std::vector<float> merged(w.begin(), w.end());
    const auto bytes = std::as_bytes(std::span(merged));
    out.assign(bytes.begin(), bytes.end());
    return {};
  }

  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override {
    const Entry& entry = entries_[index];
    return entry.changes.empty() ? entry.from.source->read_range(entry.from.index, offset, out)
                                 : TensorSource::read_range(index, offset, out);
  }

 private:
  std::unique_ptr<TensorSource> base_;
  std::vector<OpenedAdapter> adapters_;
  std::vector<Entry> entries_;
  std::vector<TensorInfo> infos_;
};

/// The parts of one file that change one matrix.
struct Parts {
  Place lora_a, lora_b, init_a, init_b, disha, bone;
  Place& at(AdapterPart part) {
    switch (part) {
      case AdapterPart::LoraA:
        return lora_a;
      case AdapterPart::LoraB:
        return lora_b;
      case AdapterPart::InitLoraA:
        return init_a;
      case AdapterPart::InitLoraB:
        return init_b;
      case AdapterPart::Disha:
        return disha;
      case AdapterPart::Bone:
        return bone;
    }
    return bone;
  }
};

/// Makes the list of merged tensors, file by file.
class Merger {
 public:
  Merger(const TensorSource& base, const MergeOptions& options) : base_(base), options_(options) {}

  Status begin();
  Status add(const OpenedAdapter& file);
  Status end();
  std::vector<Entry> take_entries() { return std::move(entries_); }
  std::vector<std::string> take_notes() { return std::move(notes_); }

 private:
  struct Target {
    size_t index = 0;            ///< of the entry
    bool is_transposed = false;  ///< the adapter has the matrix the other way round
  };
  struct Counts {
    size_t n_changed = 0, n_replaced = 0, n_added = 0;
    std::string how;
  };
  std::optional<Target> find(std::string_view name) const;
  Status add_parts(const std::map<std::string, Parts>& all, const std::string& path,
                   Counts& counts);
  Status add_pair(Entry& entry, const Place& a, const Place& b, const Target& target,
                  Change::Kind kind, Counts& counts);
  Status add_disha(Entry& entry, const Place& place, Counts& counts);
  Status add_blocks(Entry& entry, const Place& place, const char* kind, Counts& counts);
  Status replace(const TensorSource& adapter, size_t index, Counts& counts);
  void note(const std::string& path, const Counts& counts);

  const TensorSource& base_;
  const MergeOptions& options_;
  std::vector<Entry> entries_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<const TensorSource*, AdapterConfig> configs_;
  std::vector<std::string> notes_;
  bool used_alpha_ = false;
};

// The parts of adapters in `source` by the matrix that they change.
Result<std::map<std::string, Parts>> parts_of(const TensorSource& source) {
  std::map<std::string, Parts> all;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    const auto name = parse_adapter_name(info.name);
    if (!name) {
      continue;
    }
    if (!traits(info.dtype).is_float) {
      return bad_input(
          "{}: tensor '{}': expected floats, found {}; take the adapter as it was trained",
          source.path(), info.name, traits(info.dtype).name);
    }
    Place& place = all[name->target].at(name->part);
    if (place.source) {
      return bad_input(
          "{}: tensor '{}' is the second of its kind for '{}', expected one; take the adapter as "
          "it was trained",
          source.path(), info.name, name->target);
    }
    place = {&source, i};
  }
  return all;
}

// The tensor of the base that `name` means: BlinkDL's name, or another program's.
std::optional<Merger::Target> Merger::find(std::string_view name) const {
  if (const auto found = by_name_.find(name); found != by_name_.end()) {
    return Target{found->second, false};
  }
  for (const ForeignTarget& target : foreign_targets(name)) {
    if (const auto found = by_name_.find(target.name); found != by_name_.end()) {
      return Target{found->second, target.is_transposed};
    }
  }
  return std::nullopt;
}

// The base's own tensors, then the adapter that the file holds besides.
Status Merger::begin() {
  for (size_t i = 0; i < base_.tensors().size(); ++i) {
    const TensorInfo& info = base_.tensors()[i];
    if (!parse_adapter_name(info.name)) {
      by_name_.emplace(info.name, entries_.size());
      entries_.push_back({info, {&base_, i}, {}});
    }
  }
  if (entries_.size() == base_.tensors().size()) {
    return {};
  }
  RWKV_ASSIGN(const auto parts, parts_of(base_));
  Counts counts;
  RWKV_TRY(add_parts(parts, base_.path(), counts));
  note(base_.path(), counts);
  return {};
}

Status Merger::add(const OpenedAdapter& file) {
  const TensorSource& adapter = *file.source;
  if (file.config) {
    configs_.emplace(&adapter, *file.config);
  }
  RWKV_ASSIGN(const auto parts, parts_of(adapter));
  Counts counts;
  // Replaced first: what was trained as a whole is the matrix that factors add to.
  for (size_t i = 0; i < adapter.tensors().size(); ++i) {
    if (!parse_adapter_name(adapter.tensors()[i].name)) {
      RWKV_TRY(replace(adapter, i, counts));
    }
  }
  RWKV_TRY(add_parts(parts, adapter.path(), counts));
  note(adapter.path(), counts);
  if (file.config && !options_.alpha) {
    notes_.push_back(fmt::format("LoRA is scaled by alpha {} / {}, as {} says", file.config->alpha,
                                 file.config->by_root ? "the root of rank" : "rank",
                                 file.config->path));
  }
  return {};
}

Status Merger::add_parts(const std::map<std::string, Parts>& all, const std::string& path,
                         Counts& counts) {
  for (const auto& [target, parts] : all) {
    const auto found = find(target);
    if (!found) {
      return bad_input(
          "{}: changes '{}', which {} does not have: the adapter is of another model; give the "
          "model that it was trained on",
          path, target, base_.path());
    }
    Entry& entry = entries_[found->index];
    if (entry.info.shape.size() != 2) {
      return bad_input(
          "{}: changes '{}', which is {}, expected a matrix; give the model that it was trained on",
          path, target, shape_to_string(entry.info.shape));
    }
    if (parts.init_a.source || parts.init_b.source) {
      RWKV_TRY(
          add_pair(entry, parts.init_a, parts.init_b, *found, Change::Kind::SubtractPair, counts)
              .in(path + ": '" + target + "'"));
    }
    if (parts.lora_a.source || parts.lora_b.source) {
      RWKV_TRY(add_pair(entry, parts.lora_a, parts.lora_b, *found, Change::Kind::AddPair, counts)
                   .in(path + ": '" + target + "'"));
    }
    if (parts.disha.source) {
      RWKV_TRY(add_disha(entry, parts.disha, counts).in(path));
    }
    if (parts.bone.source) {
      RWKV_TRY(add_blocks(entry, parts.bone, "Bone", counts).in(path));
    }
    entry.info.dtype = DType::F32;
    counts.n_changed += 1;
  }
  return {};
}

Status Merger::add_pair(Entry& entry, const Place& a, const Place& b, const Target& target,
                        Change::Kind kind, Counts& counts) {
  if (!a.source || !b.source) {
    return bad_input("expected both factors of the pair, found only '{}'; take the whole adapter",
                     (a.source ? a : b).info().name);
  }
  std::vector<uint64_t> shape = entry.info.shape;
  if (target.is_transposed) {
    std::swap(shape[0], shape[1]);
  }
  const std::vector<uint64_t>& shape_a = a.info().shape;
  const std::vector<uint64_t>& shape_b = b.info().shape;
  if (shape_a.size() != 2 || shape_b.size() != 2 || shape_a[0] == 0 || shape_a[1] != shape[1] ||
      shape_b[0] != shape[0] || shape_b[1] != shape_a[0]) {
    return bad_input(
        "factors of {} and {} do not fit the matrix, which is {}; give the model that it was "
        "trained on",
        shape_to_string(shape_a), shape_to_string(shape_b), shape_to_string(shape));
  }
  counts.how = kind == Change::Kind::AddPair ? "LoRA, rank " : "PiSSA's initial values, rank ";
  counts.how += std::to_string(shape_a[0]);
  entry.changes.push_back({kind, a, b, 1.0, target.is_transposed});
  return {};
}

Status Merger::add_disha(Entry& entry, const Place& place, Counts& counts) {
  const std::vector<uint64_t>& shape = place.info().shape;
  if (shape.size() == 3) {
    return add_blocks(entry, place, "DiSHA", counts);
  }
  if (shape.size() != 2 || shape[0] == 0 || shape[1] != entry.info.shape[0]) {
    return bad_input(
        "tensor '{}' is {}, expected rank x {} for a matrix of {}; give the model that it was "
        "trained on",
        place.info().name, shape_to_string(shape), entry.info.shape[0],
        shape_to_string(entry.info.shape));
  }
  counts.how = fmt::format("DiSHA, rank {}", shape[0]);
  entry.changes.push_back({Change::Kind::AddRows, place, {}, 1.0});
  return {};
}

Status Merger::add_blocks(Entry& entry, const Place& place, const char* kind, Counts& counts) {
  const std::vector<uint64_t>& shape = place.info().shape;
  const std::vector<uint64_t>& matrix = entry.info.shape;
  const bool fits = shape.size() == 3 && shape[1] == shape[2] && shape[1] > 0 &&
                    shape[1] <= matrix[1] && matrix[0] % shape[1] == 0 &&
                    matrix[1] % shape[1] == 0 && shape[0] == matrix[1] / shape[1];
  if (!fits) {
    return bad_input(
        "tensor '{}' is {}, expected in/rank x rank x rank for a matrix of {}, which is what "
        "RWKV-PEFT's last form of Bone has; merge it with the program that trained it",
        place.info().name, shape_to_string(shape), shape_to_string(matrix));
  }
  counts.how = fmt::format("{} in blocks, rank {}", kind, shape[1]);
  entry.changes.push_back({Change::Kind::MultiplyBlocks, place, {}, 1.0});
  return {};
}

Status Merger::replace(const TensorSource& adapter, size_t index, Counts& counts) {
  const TensorInfo& info = adapter.tensors()[index];
  const std::string name(plain_module_name(info.name));
  const auto found = find(name);
  if (!found) {
    if (!name.ends_with(".att.time_state")) {
      return bad_input(
          "{}: tensor '{}' is neither part of an adapter that this program knows nor a tensor of "
          "{}; merge it with the program that trained it, or give its own model",
          adapter.path(), info.name, base_.path());
    }
    by_name_.emplace(name, entries_.size());
    entries_.push_back({{name, info.dtype, info.shape}, {&adapter, index}, {}});
    counts.n_added += 1;
    return {};
  }
  Entry& entry = entries_[found->index];
  // A scalar has no dimensions at all.
  const auto last = [](const TensorInfo& of) { return of.shape.empty() ? 1 : of.shape.back(); };
  if (found->is_transposed || entry.info.n_elements() != info.n_elements() ||
      last(entry.info) != last(info)) {
    return bad_input(
        "{}: tensor '{}' is {}, but the one of {} is {}; give the model that it was trained on",
        adapter.path(), info.name, shape_to_string(info.shape), base_.path(),
        shape_to_string(entry.info.shape));
  }
  entry = {{entry.info.name, info.dtype, info.shape}, {&adapter, index}, {}};
  counts.n_replaced += 1;
  return {};
}

void Merger::note(const std::string& path, const Counts& counts) {
  std::string line = fmt::format("merged {}: ", path);
  if (counts.n_changed > 0) {
    line += fmt::format("{} matrices changed ({})", counts.n_changed, counts.how);
  }
  const auto add_count = [&](size_t n, const char* what) {
    if (n > 0) {
      line += fmt::format("{}{} tensors {}", line.ends_with(": ") ? "" : ", ", n, what);
    }
  };
  add_count(counts.n_replaced, "replaced");
  add_count(counts.n_added, "added");
  notes_.push_back(line);
}

// With all files known: PiSSA needs both of its pairs and no scale, LoRA needs one.
Status Merger::end() {
  for (Entry& entry : entries_) {
    const auto count = [&](Change::Kind kind) {
      return std::count_if(entry.changes.begin(), entry.changes.end(),
                           [&](const Change& change) { return change.kind == kind; });
    };
    const bool is_pissa = count(Change::Kind::SubtractPair) > 0;
    if (is_pissa && count(Change::Kind::AddPair) == 0) {
      return usage_error(
          "'{}': only PiSSA's initial values are there; merge the trained factors (lora_A, lora_B) "
          "too",
          entry.info.name);
    }
    for (Change& change : entry.changes) {
      if (change.kind != Change::Kind::AddPair || is_pissa) {
        continue;
      }
      const uint64_t rank = change.a.info().shape[0];
      const auto config = configs_.find(change.a.source);
      if (!options_.alpha && config != configs_.end()) {
        change.scale = config->second.scale(rank);
        continue;
      }
      if (!options_.alpha) {
        return usage_error(
            "{}: is a LoRA of rank {}, and no file says by how much to scale it: give --alpha, the "
            "lora_alpha of its training (RWKV-PEFT's examples have 32); for PiSSA merge the file "
            "of initial values too",
            change.a.source->path(), rank);
      }
      change.scale = *options_.alpha / static_cast<double>(rank);
      used_alpha_ = true;
    }
  }
  if (options_.alpha && !used_alpha_) {
    return usage_error("--alpha scales a LoRA, and there is none to merge; remove it");
  }
  if (used_alpha_) {
    notes_.push_back(fmt::format("LoRA is scaled by alpha {} / rank", *options_.alpha));
  }

  return {};
}

}  // namespace

Result<Merged> merge_adapters(std::unique_ptr<TensorSource> base,
                              std::vector<OpenedAdapter> adapters, const MergeOptions& options) {
  if (is_adapter(*base)) {
    return bad_input(
        "{}: is an adapter ({}) and not a model; give the model that it was trained on, and the "
        "adapter as --merge",
        base->path(), adapter_kind(*base));
  }
  Merger merger(*base, options);
  RWKV_TRY(merger.begin());
  for (const OpenedAdapter& adapter : adapters) {
    RWKV_TRY(merger.add(adapter));
  }
  RWKV_TRY(merger.end());
  Merged merged;
  merged.notes = merger.take_notes();
  merged.source =
      std::make_unique<MergedSource>(std::move(base), std::move(adapters), merger.take_entries());
  return merged;
}

}  // namespace rwkv::press

#include "runtime/memory/residency.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/base/little_endian.h"
#include "formats/base/nearest.h"
#include "runtime/storage/row_store.h"
#include "runtime/storage/row_window.h"

namespace rwkv::edge {
namespace {

constexpr uint64_t kAlignment = 64;
// Rows of the head read together: clusters are runs of rows.
constexpr uint64_t kHeadRowsPerUnit = 4;
// Names, places and lookup tables of one tensor, generously.
constexpr uint64_t kTableBytesPerTensor = 640;
// Tokens per pass to try when the limit is tight.
constexpr std::array<size_t, 3> kChunks = {32, 8, 1};

// What a plan is made of, once all choices are made.
struct Choice {
  MemoryMode mode = MemoryMode::Full;
  size_t max_chunk = 32;
  double neuron_cache = 0;
  double head_cache = 0;
  uint64_t embedding_rows = 0;
};

// Tables of the clustered head, which it keeps in a form of its own.
bool is_read_once(const TensorBinding& binding) {
  return binding.name == "head.tokens" || binding.name == "head.cluster.first";
}

MatrixView shape_of(const PackedTensor& tensor) {
  return {nullptr, nullptr, tensor.codec, tensor.rows, tensor.cols};
}

class Planner {
 public:
  Planner(const PackedFile& file, const MemoryOptions& options, const OtherMemory& other);
  MemoryPlan plan(const Choice& choice) const;
  uint64_t total(const Choice& choice) const { return plan(choice).account.total(); }

 private:
  TensorPlan place(const TensorBinding& binding, const Choice& choice) const;
  Residence residence(const TensorBinding& binding, bool by_row, MemoryMode mode) const;
  uint64_t units(const TensorBinding& binding, uint64_t rows, uint64_t rows_per_unit,
                 const Choice& choice) const;

  const PackedFile& file_;
  const MemoryOptions& options_;
  const OtherMemory& other_;
  std::vector<bool> has_predictor_;  ///< by block
};

Planner::Planner(const PackedFile& file, const MemoryOptions& options, const OtherMemory& other)
    : file_(file), options_(options), other_(other), has_predictor_(file.config.n_layer) {
  for (const TensorBinding& binding : file.bindings) {
    if (binding.role == Role::SignBits || binding.role == Role::Predictor) {
      has_predictor_[static_cast<size_t>(binding.block)] = true;
    }
  }
}

Residence Planner::residence(const TensorBinding& binding, bool by_row, MemoryMode mode) const {
  if (mode == MemoryMode::Full) {
    return Residence::Mapped;
  }
  if (mode == MemoryMode::Loaded) {
    return binding.role == Role::Ignored || is_read_once(binding) ? Residence::Absent
                                                                  : Residence::Pinned;
  }
  const bool layerwise = mode == MemoryMode::Layerwise;
  const Residence dense = layerwise ? Residence::Slot : Residence::Pinned;
  const Residence rows = mode == MemoryMode::Windowed ? Residence::Window : Residence::Rows;
  switch (binding.role) {
    case Role::Vector:
      return is_read_once(binding) ? Residence::Absent : Residence::Pinned;
    case Role::ClusterHead:
      return Residence::Pinned;
    case Role::Lora:
    case Role::Projection:
    case Role::Predictor:
    case Role::SignBits:
      return dense;
    case Role::FfnKey:
      return by_row && has_predictor_[static_cast<size_t>(binding.block)] ? rows : dense;
    case Role::FfnValue:
      return by_row ? rows : dense;
    case Role::Embedding:
      return by_row ? rows : Residence::Pinned;
    case Role::Head:
      return by_row && (file_.config.n_cluster > 0 || layerwise) ? rows : Residence::Pinned;
    case Role::Ignored:
      return Residence::Absent;
  }
  return dense;
}

// Units that the cache of a matrix of `rows` rows has.
uint64_t Planner::units(const TensorBinding& binding, uint64_t rows, uint64_t rows_per_unit,
                        const Choice& choice) const {
  const auto n_units = (rows + rows_per_unit - 1) / rows_per_unit;
  const auto share = [&](double part) {
    return static_cast<uint64_t>(std::ceil(part * static_cast<double>(n_units)));
  };
  if (binding.role == Role::Embedding) {
    return std::min(choice.embedding_rows, rows);
  }
  // What passes through whole for every block or token is not worth keeping.
  if (choice.mode == MemoryMode::Layerwise) {
    return binding.role == Role::Head && file_.config.n_cluster > 0 ? share(choice.head_cache) : 0;
  }
  return share(binding.role == Role::Head ? choice.head_cache : choice.neuron_cache);
}

TensorPlan Planner::place(const TensorBinding& binding, const Choice& choice) const {
  const PackedTensor& packed = file_.tensors[binding.source];
  TensorPlan plan;
  plan.component = component_of(binding);
  plan.residence = residence(binding, codec_traits(packed.codec).unit_rows == 1, choice.mode);
  if (plan.residence == Residence::Rows) {
    plan.rows_per_unit = binding.role == Role::Head ? kHeadRowsPerUnit : 1;
    plan.capacity = units(binding, packed.rows, plan.rows_per_unit, choice);
    const bool holds_all = plan.capacity * plan.rows_per_unit >= packed.rows;
    if (holds_all || plan.capacity > Lru::kMaxCapacity) {
      plan.residence = Residence::Pinned;
    }
  }
  return plan;
}

MemoryPlan Planner::plan(const Choice& choice) const {
  MemoryPlan plan;
  plan.mode = choice.mode;
  plan.max_chunk = choice.max_chunk;
  plan.neuron_cache = choice.neuron_cache;
  plan.head_cache = choice.head_cache;
  plan.embedding_rows = choice.embedding_rows;
  uint64_t windowed_bytes = 0;
  std::vector<uint64_t> blocks(file_.config.n_layer);
  plan.tensors.resize(file_.tensors.size());
  // In the order of use, also of a file that has another.
  for (const TensorBinding& binding : file_.bindings) {
    const PackedTensor& packed = file_.tensors[binding.source];
    TensorPlan& tensor = plan.tensors[binding.source];
    tensor = place(binding, choice);
    ComponentBytes& bytes = plan.account.at(tensor.component);
    const uint64_t aligned = align_up(packed.n_bytes, kAlignment);
    if (tensor.residence == Residence::Pinned) {
      tensor.offset = plan.pinned_bytes;
      plan.pinned_bytes += aligned;
      bytes.resident += aligned;
    } else if (tensor.residence == Residence::Slot) {
      uint64_t& block = blocks[static_cast<size_t>(binding.block)];
      tensor.offset = block;
      block += aligned;
    } else if (tensor.residence == Residence::Rows || tensor.residence == Residence::Window) {
      // What their rows share is wanted with each of them.
      const uint64_t shared =
          align_up(codec_traits(packed.codec).shared_bytes(packed.cols), kAlignment);
      tensor.offset = plan.pinned_bytes;
      plan.pinned_bytes += shared;
      bytes.resident += shared;
    }
    if (tensor.residence == Residence::Rows) {
      const MatrixView shape = shape_of(packed);
      const uint64_t cache = RowStore::cache_bytes(shape, tensor.rows_per_unit, tensor.capacity);
      bytes.resident += cache;
      bytes.cached += cache;
      plan.staging_bytes =
          std::max(plan.staging_bytes, RowStore::staging_bytes(shape, tensor.rows_per_unit));
    } else if (tensor.residence == Residence::Window) {
      windowed_bytes += packed.n_bytes;
    } else if (tensor.residence == Residence::Mapped) {
      bytes.resident += binding.role == Role::Ignored ? 0 : packed.n_bytes;
    }
  }
  plan.slot_bytes = blocks.empty() ? 0 : *std::max_element(blocks.begin(), blocks.end());
  Account& account = plan.account;
  account.at(Component::ClusterHead).resident += other_.cluster_tables;
  account.at(Component::Block).resident = plan.slot_bytes;
  plan.window_bytes = RowWindow::room_for(windowed_bytes);
  account.at(Component::Staging).resident =
      plan.staging_bytes + std::min(windowed_bytes, plan.window_bytes);
  account.at(Component::Tokenizer).resident = other_.tokenizer;
  account.at(Component::Tables).resident = file_.tensors.size() * kTableBytesPerTensor;
  account.at(Component::State).resident = other_.state;
  account.at(Component::Scratch).resident = other_.scratch(choice.max_chunk);
  account.at(Component::Program).resident = options_.program_bytes;
  return plan;
}

Status check(const MemoryOptions& options) {
  const auto check_share = [](const char* name, const std::optional<double>& share) -> Status {
    if (share && !(*share >= 0.0 && *share <= 1.0)) {
      return usage_error("{}: a share from 0 to 1 is wanted, found {}", name, *share);
    }
    return {};
  };
  RWKV_TRY(check_share("neuron cache", options.neuron_cache));
  return check_share("head cache", options.head_cache);
}

Choice first_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode, options.max_chunk, options.neuron_cache.value_or(kDefaultNeuronCache),
          options.head_cache.value_or(kDefaultHeadCache),
          options.embedding_rows.value_or(kDefaultEmbeddingRows)};
}

// The least that a mode can do with: one token per pass, and of the caches what was asked for.
Choice least_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode, 1, options.neuron_cache.value_or(0.0), options.head_cache.value_or(0.0),
          options.embedding_rows.value_or(1)};
}

// Within the limit, caches that were left open take what is there: all the same share of their
// largest size. Found by halving, since what a share takes is rounded in many places.
Choice fill_caches(const Planner& planner, Choice choice, const MemoryOptions& options) {
  constexpr int kHalvings = 20;
  const auto with_share = [&](double share) {
    Choice filled = choice;
    filled.neuron_cache = options.neuron_cache.value_or(share);
    filled.head_cache = options.head_cache.value_or(share);
    filled.embedding_rows = options.embedding_rows.value_or(share > 0 ? kDefaultEmbeddingRows : 1);
    return filled;
  };
  if (planner.total(with_share(1.0)) <= options.limit) {
    return with_share(1.0);
  }
  double low = 0.0;
  double high = 1.0;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (planner.total(with_share(middle)) <= options.limit ? low : high) = middle;
  }
  return with_share(low);
}

// The richest choice of a mode that the limit allows.
std::optional<Choice> fit(const Planner& planner, MemoryMode mode, const MemoryOptions& options) {
  if (planner.total(least_choice(mode, options)) > options.limit) {
    return std::nullopt;
  }
  for (const size_t chunk : kChunks) {
    Choice choice = least_choice(mode, options);
    choice.max_chunk = std::min(chunk, options.max_chunk);
    // Passes of many tokens are worth a fifth of what is left for caches, not more.
    const uint64_t least = planner.total(least_choice(mode, options));
    const uint64_t with_chunk = planner.total(choice);
    if (chunk == 1 ||
        (with_chunk <= options.limit && (with_chunk - least) * 5 <= options.limit - least)) {
      return fill_caches(planner, choice, options);
    }
  }
  return std::nullopt;
}

}  // namespace

const char* memory_mode_name(MemoryMode mode) {
  switch (mode) {
    case MemoryMode::Full:
      return "full";
    case MemoryMode::Loaded:
      return "loaded";
    case MemoryMode::Sparse:
      return "sparse";
    case MemoryMode::Windowed:
      return "windowed";
    case MemoryMode::Layerwise:
      return "layerwise";
  }
  return "";
}

Result<MemoryMode> memory_mode_named(const std::string& name, const std::string& option) {
  std::vector<std::string_view> names;
  for (const MemoryMode mode : kMemoryModes) {
    if (name == memory_mode_name(mode)) {
      return mode;
    }
    names.emplace_back(memory_mode_name(mode));
  }
  return usage_error("{} is '{}'{}", option, name, suggestion(name, names));
}

Component component_of(const TensorBinding& binding) {
  switch (binding.role) {
    case Role::Vector:
    case Role::Ignored:
      return binding.block < 0 && binding.name.starts_with("head.") ? Component::ClusterHead
                                                                    : Component::Vectors;
    case Role::Lora:
      return Component::TimeMix;
    case Role::Projection:
      return binding.name.find(".ffn.") != std::string::npos ? Component::ChannelMix
                                                             : Component::TimeMix;
    case Role::FfnKey:
    case Role::FfnValue:
      return Component::Neurons;
    case Role::Predictor:
    case Role::SignBits:
      return Component::Predictors;
    case Role::Embedding:
      return Component::Embedding;
    case Role::ClusterHead:
      return Component::ClusterHead;
    case Role::Head:
      return Component::Head;
  }
  return Component::Vectors;
}

Result<MemoryPlan> plan_memory(const PackedFile& file, const MemoryOptions& options,
                               const OtherMemory& other) {
  RWKV_TRY(check(options));
  const Planner planner(file, options, other);
  if (options.limit == 0) {
    MemoryPlan plan = planner.plan(first_choice(options.mode.value_or(MemoryMode::Full), options));
    plan.max_chunk = SIZE_MAX;  // whatever the evaluator is asked for
    return plan;
  }
  // Only one who asks for it gets loaded, which takes no less than full, or windowed, whose speed
  // hangs on memory beside the limit.
  const auto is_for_all = [](MemoryMode mode) {
    return mode != MemoryMode::Loaded && mode != MemoryMode::Windowed;
  };
  uint64_t smallest = UINT64_MAX;
  MemoryMode smallest_mode = MemoryMode::Full;
  for (const MemoryMode mode : kMemoryModes) {
    if (options.mode ? *options.mode != mode : !is_for_all(mode)) {
      continue;
    }
    if (const auto choice = fit(planner, mode, options)) {
      return planner.plan(*choice);
    }
    const uint64_t least = planner.total(least_choice(mode, options));
    if (least < smallest) {
      smallest = least;
      smallest_mode = mode;
    }
  }
  return usage_error(
      "{}: a memory limit of {} bytes cannot be met; the smallest that can is {} bytes (memory "
      "mode {})",
      file.path, options.limit, smallest, memory_mode_name(smallest_mode));
}

}  // namespace rwkv::edge

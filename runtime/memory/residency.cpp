#include "runtime/memory/residency.h"

#include <algorithm>
#include <array>

#include "formats/arch/access.h"
#include "runtime/memory/placement.h"
#include "runtime/storage/row_window.h"

namespace rwkv::edge {
namespace {

// Caches that hold less save so few reads that a window of the mapped file is better: it reads no
// more than they do, without copying, and much less if the system has cached the file.
constexpr double kWorthACache = 0.5;
// Tokens per pass to try when the limit is tight.
constexpr std::array<size_t, 3> kChunks = {32, 8, 1};

Status check(const MemoryOptions& options) {
  const auto check_share = [](const char* name, const std::optional<double>& share) -> Status {
    if (share && !(*share >= 0.0 && *share <= 1.0)) {
      return usage_error("{}: expected a share from 0 to 1, found {}", name, *share);
    }
    return {};
  };
  RWKV_TRY(check_share("neuron cache", options.neuron_cache));
  return check_share("head cache", options.head_cache);
}

Choice first_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode,
          options.max_chunk,
          options.neuron_cache.value_or(kDefaultNeuronCache),
          options.head_cache.value_or(kDefaultHeadCache),
          options.embedding_rows.value_or(kDefaultEmbeddingRows),
          0,
          false,
          {options.stream, options.stream.slots > 0 ? options.stream.slots : kSlots, 0.0}};
}

// The smallest residency of a mode: one token per pass, and caches of the requested size or none.
Choice least_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode,
          1,
          options.neuron_cache.value_or(0.0),
          options.head_cache.value_or(0.0),
          options.embedding_rows.value_or(1),
          0,
          false,
          {options.stream, options.stream.slots > 0 ? options.stream.slots : kLeastSlots, 0.0}};
}

// The largest share for which there is room, if there is for none of it. By bisection, since bytes
// are rounded in many places.
template <typename F>
double largest_share(const F& has_room) {
  constexpr int kHalvings = 20;
  if (has_room(1.0)) {
    return 1.0;
  }
  double low = 0.0;
  double high = 1.0;
  for (int i = 0; i < kHalvings; ++i) {
    const double half = (low + high) / 2;
    (has_room(half) ? low : high) = half;
  }
  return low;
}

// Within the limit, caches without a requested size take the remaining memory, each the same share
// of its largest size.
Choice fill_caches(const Planner& planner, Choice choice, const MemoryOptions& options) {
  const auto with_share = [&](double share) {
    Choice filled = choice;
    filled.neuron_cache = options.neuron_cache.value_or(share);
    filled.head_cache = options.head_cache.value_or(share);
    filled.embedding_rows = options.embedding_rows.value_or(share > 0 ? kDefaultEmbeddingRows : 1);
    return filled;
  };
  return with_share(largest_share(
      [&](double share) { return planner.total(with_share(share)) <= options.limit; }));
}

// As much in memory of what is streamed as there is room for, next to a ring of the usual size or
// the least one.
Choice pin_pieces(const Planner& planner, Choice choice, const MemoryOptions& options) {
  const unsigned least = choice.stream.slots;
  choice.stream.slots = options.stream.slots > 0 ? options.stream.slots : kSlots;
  if (planner.total(choice) > options.limit) {
    choice.stream.slots = least;
  }
  choice.stream.kept_share = largest_share([&](double share) {
    Choice more = choice;
    more.stream.kept_share = share;
    return planner.total(more) <= options.limit;
  });
  return choice;
}

// As many blocks in memory as there is room for, then the head: every byte of them is a byte less
// to read for each token, which no cache of rows can do.
Choice pin_blocks(const Planner& planner, Choice choice, uint64_t n_layer, uint64_t limit) {
  while (choice.pinned_blocks < n_layer) {
    Choice more = choice;
    ++more.pinned_blocks;
    if (planner.total(more) > limit) {
      break;
    }
    choice = more;
  }
  Choice with_head = choice;
  with_head.pins_head = true;
  return planner.total(with_head) <= limit ? with_head : choice;
}

Choice pin(const Planner& planner, const Choice& choice, uint64_t n_layer,
           const MemoryOptions& options) {
  switch (mode_traits(choice.mode).dense) {
    case DenseWeights::Mapped:
    case DenseWeights::Pinned:
      return choice;
    case DenseWeights::Ahead:
      return pin_pieces(planner, choice, options);
    case DenseWeights::Streamed:
      return pin_blocks(planner, choice, n_layer, options.limit);
  }
  return choice;
}

// The richest choice of a mode that the limit allows.
std::optional<Choice> fit(const Planner& planner, MemoryMode mode, uint64_t n_layer,
                          const MemoryOptions& options) {
  if (planner.total(least_choice(mode, options)) > options.limit) {
    return std::nullopt;
  }
  for (const size_t chunk : kChunks) {
    Choice choice = least_choice(mode, options);
    choice.max_chunk = std::min(chunk, options.max_chunk);
    // Passes of many tokens are worth at most a fifth of the memory that remains for caches.
    const uint64_t least = planner.total(least_choice(mode, options));
    const uint64_t with_chunk = planner.total(choice);
    if (chunk == 1 ||
        (with_chunk <= options.limit && (with_chunk - least) * 5 <= options.limit - least)) {
      return fill_caches(planner, pin(planner, choice, n_layer, options), options);
    }
  }
  return std::nullopt;
}

// Whether a mode with these caches should give way to a window.
bool is_thin(const Choice& choice, const MemoryOptions& options) {
  const bool is_told = options.mode || options.neuron_cache || options.head_cache;
  return !is_told && mode_traits(choice.mode).rows == DemandedRows::Cached &&
         choice.neuron_cache < kWorthACache;
}

// The best choice within the limit: see residency_for().
Result<Choice> choice_within_limit(const Planner& planner, const PackedFile& file,
                                   const MemoryOptions& options) {
  uint64_t smallest = UINT64_MAX;
  const char* smallest_mode = "";
  std::optional<Choice> thin;
  for (const ModeTraits& traits : mode_list()) {
    if (options.mode ? *options.mode != traits.mode : !traits.by_limit) {
      continue;
    }
    const auto choice = fit(planner, traits.mode, file.config.n_layer, options);
    if (choice && !thin && is_thin(*choice, options)) {
      thin = choice;
    } else if (choice && (!thin || traits.rows == DemandedRows::Windowed)) {
      return *choice;
    }
    const uint64_t least = planner.total(least_choice(traits.mode, options));
    if (least < smallest) {
      smallest = least;
      smallest_mode = traits.name;
    }
  }
  if (thin) {
    return *thin;
  }
  return usage_error(
      "{}: the model does not fit in {} bytes; the smallest possible limit is {} bytes (memory "
      "mode {})",
      file.path, options.limit, smallest, smallest_mode);
}

double speed_of(const Residency& residency) {
  return residency.seconds_per_token > 0 ? 1.0 / residency.seconds_per_token : 0.0;
}

// Within the limit, or the least memory that reaches the speed.
Result<Choice> choice_of_speed(const Planner& planner, const PackedFile& file,
                               const MemoryOptions& options) {
  const double wanted = options.stream.tokens_per_second;
  if (options.mode && mode_traits(*options.mode).dense != DenseWeights::Ahead) {
    return usage_error("a speed to be reached needs memory mode streamed, found {}",
                       mode_traits(*options.mode).name);
  }
  if (!options.stream.device.is_known() || options.stream.device.n_threads != options.n_threads) {
    return usage_error(
        "a speed to be reached needs figures of this device with {} threads; make them with "
        "rwkv-edge profile -t {} and give them with --device",
        options.n_threads, options.n_threads);
  }
  MemoryOptions streamed = options;
  streamed.mode = MemoryMode::Streamed;
  Choice choice = first_choice(MemoryMode::Streamed, options);
  const auto with_share = [&](double share) {
    Choice kept = choice;
    kept.stream.kept_share = share;
    return kept;
  };
  const auto is_fast = [&](const Choice& kept) {
    return speed_of(planner.residency(kept)) >= wanted;
  };
  if (!is_fast(with_share(1.0))) {
    return usage_error("{}: {} tokens/s cannot be reached: computing alone allows {:.2f}",
                       file.path, wanted, speed_of(planner.residency(with_share(1.0))));
  }
  const Choice least =
      with_share(1.0 - largest_share([&](double less) { return is_fast(with_share(1.0 - less)); }));
  if (options.limit == 0) {
    return least;
  }
  RWKV_ASSIGN(choice, choice_within_limit(planner, file, streamed));
  if (!is_fast(choice)) {
    return usage_error(
        "{}: {} tokens/s cannot be reached within {} bytes, which allow {:.2f}; they need about {} "
        "bytes",
        file.path, wanted, options.limit, speed_of(planner.residency(choice)),
        planner.total(least));
  }
  return choice;
}

ReadPerToken read_per_token(const PackedFile& file, const Residency& residency) {
  const ModelAccess access(file.config, file.bindings);
  ReadPerToken read;
  double rows = 0;
  for (const TensorBinding& binding : file.bindings) {
    const PackedTensor& packed = file.tensors[binding.source];
    const Residence residence = residency.tensors[binding.source].residence;
    if (residence == Residence::Slot) {
      read.bytes += packed.n_bytes;
    } else if (residence == Residence::Parts) {
      continue;  // counted by pieces
    } else if (residence == Residence::Rows || residence == Residence::Window) {
      const Access how = access.of(binding);
      rows += bytes_read(how, packed.n_bytes, packed.rows, file.shares);
      read.is_bound = read.is_bound || (how == Access::NamedNeurons && file.shares.neurons == 1) ||
                      (how == Access::ChosenClusters && file.shares.clusters == 1);
    }
  }
  for (const StreamedPiece& piece : residency.stream) {
    read.bytes += piece.n_bytes;
  }
  read.bytes += static_cast<uint64_t>(rows);
  return read;
}

}  // namespace

MemoryMode mode_made_for(const PackedFile& file) {
  const ModelAccess access(file.config, file.bindings);
  bool is_made_for_rows = file.config.n_cluster > 0;
  uint64_t on_demand = 0;
  for (const TensorBinding& binding : file.bindings) {
    const Access how = access.of(binding);
    is_made_for_rows = is_made_for_rows || binding.role == Role::SignBits ||
                       binding.role == Role::Predictor || binding.role == Role::TokenRows;
    on_demand += how == Access::EveryToken || how == Access::Never
                     ? 0
                     : file.tensors[binding.source].n_bytes;
  }
  if (!is_made_for_rows) {
    return MemoryMode::Full;
  }
  // A window over a small model would hold most of it.
  return RowWindow::room_for(on_demand) * 2 <= on_demand ? MemoryMode::Windowed
                                                         : MemoryMode::Sparse;
}

Result<Residency> residency_for(const PackedFile& file, const MemoryOptions& options,
                                const OtherMemory& other) {
  RWKV_TRY(check(options));
  const Planner planner(file, options, other);
  if (options.stream.tokens_per_second > 0) {
    RWKV_ASSIGN(const Choice choice, choice_of_speed(planner, file, options));
    Residency residency = planner.residency(choice);
    residency.read = read_per_token(file, residency);
    return residency;
  }
  if (options.limit == 0) {
    Residency residency =
        planner.residency(first_choice(options.mode.value_or(mode_made_for(file)), options));
    residency.max_chunk = SIZE_MAX;  // any size that the evaluator requests
    residency.read = read_per_token(file, residency);
    return residency;
  }
  RWKV_ASSIGN(const Choice choice, choice_within_limit(planner, file, options));
  Residency residency = planner.residency(choice);
  residency.read = read_per_token(file, residency);
  return residency;
}

}  // namespace rwkv::edge

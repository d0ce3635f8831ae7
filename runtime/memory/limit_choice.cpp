#include "runtime/memory/limit_choice.h"

#include <algorithm>
#include <array>

namespace rwkv::edge {
namespace {

// Caches that hold less save so few reads that a window of the mapped file is better: it reads no
// more than they do, without copying, and much less if the system has cached the file.
constexpr double kWorthACache = 0.5;
// Tokens per pass to try when the limit is tight.
constexpr std::array<size_t, 3> kChunks = {32, 8, 1};

// The smallest residency of a mode: one token per pass, and caches of the requested size or none.
Choice least_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode,
          1,
          options.neuron_cache.value_or(0.0),
          options.head_cache.value_or(0.0),
          options.embedding_rows.value_or(1),
          0,
          false,
          {options.stream, options.stream.slots > 0 ? options.stream.slots : kLeastSlots, 0.0,
           options.stream.weight_bytes}};
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

}  // namespace

Choice first_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode,
          options.max_chunk,
          options.neuron_cache.value_or(kDefaultNeuronCache),
          options.head_cache.value_or(kDefaultHeadCache),
          options.embedding_rows.value_or(kDefaultEmbeddingRows),
          0,
          false,
          {options.stream, options.stream.slots > 0 ? options.stream.slots : kSlots, 0.0,
           options.stream.weight_bytes}};
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

Result<Choice> kept_within_limit(const Planner& planner, const PackedFile& file, Choice choice,
                                 const MemoryOptions& options) {
  choice.stream.kept_share = 1.0;
  if (options.limit == 0) {
    return choice;
  }
  choice.stream.kept_share = 0.0;
  choice.stream.slots = options.stream.slots > 0 ? options.stream.slots : kLeastSlots;
  const uint64_t least = planner.total(choice);
  if (least > options.limit) {
    return usage_error(
        "{}: the model does not fit in {} bytes; the smallest possible limit is {} bytes",
        file.path, options.limit, least);
  }
  return pin_pieces(planner, choice, options);
}

}  // namespace rwkv::edge

// What a caller may say about memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "runtime/memory/modes.h"

namespace rwkv::edge {

struct MemoryOptions {
  /// Without one: full; with a limit the first that it allows of those that a limit may choose.
  std::optional<MemoryMode> mode;
  /// Bytes that everything together may take; 0: no limit.
  uint64_t limit = 0;
  // Caches of what is read on demand, in modes that have any. Unset: the default, or with a limit
  // what it leaves.
  std::optional<double> neuron_cache;  ///< share of the neurons of every block
  std::optional<double> head_cache;    ///< share of the rows of a clustered head
  std::optional<uint64_t> embedding_rows;

  // What the limit has to cover besides the model.
  uint64_t program_bytes = 0;  ///< taken before the model is opened
  unsigned n_threads = 1;      ///< of the evaluator to come
  size_t max_chunk = 32;       ///< tokens per pass; fewer if the limit is tight
};

inline constexpr double kDefaultNeuronCache = 0.25;
inline constexpr double kDefaultHeadCache = 0.13;
inline constexpr uint64_t kDefaultEmbeddingRows = 64;

}  // namespace rwkv::edge

// What a caller may say about memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "formats/base/status.h"

namespace rwkv::edge {

/// Where weights live. Full maps the whole file. Loaded reads all of it into memory of its own, in
/// large pages where the system has them: slower to open, faster to run. Sparse holds in memory
/// what every token needs and reads the rest (embedding rows, neurons, clusters of the head) when a
/// token asks for it. Windowed holds the same, without caches, and uses the rest where it lies in
/// the mapped file, a stretch at a time, which it then gives back: little of its own memory, and
/// fast while the system keeps the file in its cache. Layerwise holds one block at a time beside
/// what belongs to the whole model.
enum class MemoryMode : uint8_t { Full, Loaded, Sparse, Windowed, Layerwise };
inline constexpr std::array kMemoryModes = {MemoryMode::Full, MemoryMode::Loaded,
                                            MemoryMode::Sparse, MemoryMode::Windowed,
                                            MemoryMode::Layerwise};
const char* memory_mode_name(MemoryMode mode);
/// The mode of that name; Usage with the nearest name if there is none. `option` is what was set.
Result<MemoryMode> memory_mode_named(const std::string& name, const std::string& option);

struct MemoryOptions {
  /// Without one: full; with a limit the first of full, sparse and layerwise that it allows.
  std::optional<MemoryMode> mode;
  /// Bytes that everything together may take; 0: no limit.
  uint64_t limit = 0;
  // Caches of what is read on demand (sparse, layerwise). Unset: the default, or with a limit what
  // it leaves.
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

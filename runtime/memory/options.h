// Memory options of a caller.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "runtime/memory/modes.h"

namespace rwkv::edge {

/// How fast a device is with one model, as `rwkv-edge profile` measures it.
struct DeviceSpeed {
  double read_bytes_per_second = 0;  ///< of pieces of a stream
  double compute_seconds = 0;        ///< of a token at full width, all waiting left out
  unsigned n_threads = 0;            ///< that computed
  /// The same with all pieces in a narrower codec, by its bits; 0: not known, by bytes then.
  std::array<double, 9> narrow_seconds = {};
  bool is_known() const { return read_bytes_per_second > 0; }
};

/// How weights are streamed ahead of their use; the defaults suit all but measurements.
struct StreamOptions {
  uint64_t piece_bytes = 0;   ///< of a piece at most; 0: by the size of the model
  unsigned slots = 0;         ///< largest pieces that the ring holds; 0: 4, or 2 if memory is tight
  bool bottom_first = false;  ///< keeps the first blocks in memory, not pieces of all of them
  uint64_t bytes_per_second = 0;  ///< slows reads down to such a storage; 0: as fast as it is
  DeviceSpeed device;             ///< if it is known, speeds are predicted
  double tokens_per_second = 0;   ///< to be reached; 0: as many as there can be
  // Of files that have several widths. Without any of these all pieces have their full width,
  // unless the speed cannot be reached with it.
  uint64_t weight_bytes = 0;       ///< of all pieces together, at most: B = R + BW * T
  double first_token_seconds = 0;  ///< to be reached; widths are raised afterwards
  double most_bits = 0;            ///< of codecs, where the file has such; 0: any
};

struct MemoryOptions {
  /// Without one: the mode that the file was made for (residency.h), or with a limit the best one
  /// that fits, of those that a limit may choose.
  std::optional<MemoryMode> mode;
  /// Bytes that everything together may take; 0: no limit.
  uint64_t limit = 0;
  // Caches of rows on demand, in modes that have them. Unset: the default, or with a limit the
  // remaining memory.
  std::optional<double> neuron_cache;  ///< share of the neurons of every block
  std::optional<double> head_cache;    ///< share of the rows of a clustered head
  std::optional<uint64_t> embedding_rows;

  StreamOptions stream;

  // Memory that the limit must cover besides the model.
  uint64_t program_bytes = 0;   ///< taken before the model is opened
  unsigned n_threads = 1;       ///< of the evaluator to come
  bool has_state_file = false;  ///< texts will begin with the state of a file
  size_t max_chunk = 32;        ///< tokens per pass; fewer if the limit is tight
};

inline constexpr double kDefaultNeuronCache = 0.25;
inline constexpr double kDefaultHeadCache = 0.13;
inline constexpr uint64_t kDefaultEmbeddingRows = 64;

}  // namespace rwkv::edge

// The memory modes as a table: how a mode holds the weights that every token needs, and the rows
// that are read on demand. Every difference between modes follows from this table.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "formats/base/status.h"

namespace rwkv::edge {

/// Full maps the whole file. Loaded reads all of it into its own memory, in large pages if the
/// system has them: slower to open, faster to run. Sparse holds the weights that every token needs
/// and reads the rest (embedding rows, neurons, clusters of the head) when a token needs it.
/// Windowed holds the same weights, without caches, and uses the rest in place in the mapped file,
/// one stretch at a time, which it then releases: little memory of its own, and fast while the file
/// is in the page cache. Streamed holds as many of the weights that every token needs as a limit
/// has room for, and reads the others for every token, ahead of their use. Layerwise holds one
/// block at a time, and the tensors outside the blocks.
enum class MemoryMode : uint8_t { Full, Loaded, Sparse, Windowed, Streamed, Layerwise };

/// Weights that every token needs.
enum class DenseWeights : uint8_t {
  Mapped,   ///< in the mapped file
  Pinned,   ///< loaded once
  Ahead,    ///< pinned as far as a limit has room, the others read ahead of their use
  Streamed  ///< loaded block by block, each into the memory of the previous one
};

/// Rows that a token may need (formats/arch/access.h).
enum class DemandedRows : uint8_t {
  Mapped,      ///< in the mapped file
  Pinned,      ///< loaded once
  Cached,      ///< read when they are needed; the most recently used ones stay
  Windowed,    ///< in the mapped file, of which no more than a window is resident
  PassThrough  ///< read when they are needed; neurons, which differ for every block, do not stay
};

struct ModeTraits {
  MemoryMode mode;
  const char* name;
  DenseWeights dense;
  DemandedRows rows;
  /// Whether a limit may choose it (residency.h). Loaded saves nothing over full.
  bool by_limit;
  int c_value;  ///< in rwkv_edge.h

  bool maps_file() const;
  bool owns_memory() const { return dense != DenseWeights::Mapped; }
  /// Whether rows are read into caches, whose sizes may be set.
  bool has_caches() const;
  /// Whether the contents of memory change from token to token, so that evaluators take turns.
  bool is_changing() const;
};
/// From the richest to the leanest.
std::span<const ModeTraits> mode_list();
const ModeTraits& mode_traits(MemoryMode mode);

/// The mode of that name; Usage with the nearest name if there is none. `option` is the option set.
Result<MemoryMode> memory_mode_named(const std::string& name, const std::string& option);
/// "full|loaded|...|layerwise", as the argument of an option.
std::string memory_mode_names();

}  // namespace rwkv::edge

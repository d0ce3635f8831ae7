// The ways to hold a model in memory, as a table: what becomes of weights that every token needs,
// and of rows that are read on demand. Everything that differs from mode to mode follows from a
// row.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "formats/base/status.h"

namespace rwkv::edge {

/// Full maps the whole file. Loaded reads all of it into memory of its own, in large pages where
/// the system has them: slower to open, faster to run. Sparse holds in memory what every token
/// needs and reads the rest (embedding rows, neurons, clusters of the head) when a token needs it.
/// Windowed holds the same, without caches, and uses the rest where it lies in the mapped file, a
/// stretch at a time, which it then gives back: little of its own memory, and fast while the system
/// keeps the file in its cache. Layerwise holds one block at a time beside what belongs to the
/// whole model.
enum class MemoryMode : uint8_t { Full, Loaded, Sparse, Windowed, Layerwise };

/// Weights that every token needs.
enum class DenseWeights : uint8_t {
  Mapped,   ///< in the mapped file
  Pinned,   ///< loaded once
  Streamed  ///< loaded block by block, each into the place of the one before
};

/// Rows that a token may need (formats/arch/access.h).
enum class DemandedRows : uint8_t {
  Mapped,      ///< in the mapped file
  Pinned,      ///< loaded once
  Cached,      ///< read when they are needed; those used last stay
  Windowed,    ///< in the mapped file, of which no more than a window is resident
  PassThrough  ///< read when they are needed; neurons, which every block has others of, do not stay
};

struct ModeTraits {
  MemoryMode mode;
  const char* name;
  DenseWeights dense;
  DemandedRows rows;
  /// Whether a limit may choose it: the first of the list that fits. Loaded saves nothing over
  /// full; windowed needs page cache beyond the limit.
  bool by_limit;
  int c_value;  ///< in rwkv_edge.h

  bool maps_file() const;
  bool owns_memory() const { return dense != DenseWeights::Mapped; }
  /// Whether rows are read into caches, whose sizes may be set.
  bool has_caches() const;
  /// Whether what is in memory changes from token to token, so that evaluators take turns.
  bool is_changing() const;
};
/// From the richest to the leanest.
std::span<const ModeTraits> mode_list();
const ModeTraits& mode_traits(MemoryMode mode);

/// The mode of that name; Usage with the nearest name if there is none. `option` is what was set.
Result<MemoryMode> memory_mode_named(const std::string& name, const std::string& option);
/// "full, loaded, ... or layerwise".
std::string memory_mode_names();

}  // namespace rwkv::edge

// Narrower copies of the rows of matrices in a packed file: which there are, where they lie, what
// each costs. Written by the compressor, read by the runtime; docs/packed_format.md describes them.
//
// The rows of a matrix are cut into pieces of equal size. A copy, "NAME@CODEC", is an ordinary
// tensor of fewer bits that has the rows of some of the pieces of NAME, one after the other. All
// copies lie after the complete tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/container/packed_tensors.h"

namespace rwkv {

/// Pieces have a multiple of so many rows, so that no panel of a codec is cut.
inline constexpr uint64_t kShardRowStep = 64;
/// Stands for a piece that is left out, among the names of codecs.
inline constexpr const char* kLeftOut = "none";

/// A piece of a matrix at one width.
struct ShardVersion {
  static constexpr size_t kNothing = SIZE_MAX;
  size_t tensor = kNothing;  ///< of packed_tensors(); kNothing: left out, its outputs are 0
  uint64_t first_row = 0;    ///< in that tensor
  double loss = 0;           ///< nats of KL per token over full width
  uint64_t xxh64 = 0;        ///< of the units of its rows, without the shared part
};

/// A piece at every width that the file has of it, widest first; the first is the full one.
struct ShardPiece {
  uint64_t first_row = 0;  ///< of the matrix
  uint64_t n_rows = 0;
  std::vector<ShardVersion> versions;
};

struct ShardedMatrix {
  size_t tensor = 0;               ///< of packed_tensors(), complete
  std::vector<ShardPiece> pieces;  ///< in the order of rows, all rows
};

/// Whether a tensor is a narrower copy: it has '@' in its name.
bool is_narrow_copy(std::string_view name);
/// "NAME@CODEC".
std::string narrow_copy_name(std::string_view name, std::string_view codec);
/// How many tensors there are before the first copy: those that make up the model.
size_t n_complete_tensors(std::span<const PackedTensor> tensors);
/// Whether a matrix in `full` may have copies in `narrow`; a copy may also be in narrow.in_rows.
bool is_narrower(const CodecTraits& narrow, const CodecTraits& full);

/// Empty if the file has no narrower copies. BadInput if the parts disagree: counts, codecs, rows,
/// a loss that is not finite or below 0 but not -1, a copy that no entry explains.
Result<std::vector<ShardedMatrix>> shard_index(const GgufMetadata& metadata,
                                               std::span<const PackedTensor> tensors);

/// The index as it lies in the metadata.
struct ShardTable {
  std::vector<std::string> tensors;  ///< the matrices, in the order of use
  std::vector<uint64_t> rows;        ///< of a piece of each
  std::vector<std::string> codecs;   ///< narrower ones, widest first; kLeftOut may be the last
  /// For every matrix, every piece and every codec: ShardVersion::loss, or -1 if the file has none.
  std::vector<double> losses;
  /// For every matrix and every piece: ShardVersion::xxh64 of full width, then of every codec.
  std::vector<uint64_t> xxh64;
};
void put_shard_table(ShardTable table, GgufMetadata& metadata);

}  // namespace rwkv

// Matrices cut into pieces, and the width of each piece.
#pragma once

#include <span>
#include <vector>

#include "runtime/memory/stream_plan.h"

namespace rwkv::edge {

/// A piece of a matrix at all widths that the file has of it, widest first.
struct CutPiece {
  const TensorBinding* binding = nullptr;
  uint64_t first_row = 0;
  uint64_t n_rows = 0;
  std::vector<PieceSource> versions;
};

/// `streamed`, in the order of use, cut as the file says, or else into pieces of about
/// `piece_bytes`; 0: by the size of all.
std::vector<CutPiece> cut_into_pieces(const PackedFile& file,
                                      std::span<const TensorBinding* const> streamed,
                                      uint64_t piece_bytes);

/// The version of each piece: the widest, within options.most_bits; or, within `bytes` of all
/// pieces unless it is 0, those of the least loss.
std::vector<uint32_t> widths_of(std::span<const CutPiece> pieces, const StreamOptions& options,
                                uint64_t bytes);

}  // namespace rwkv::edge

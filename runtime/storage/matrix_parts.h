// A matrix that may lie in parts: pieces of a stream, each of which may have another width.
#pragma once

#include <cstdint>
#include <span>

#include "formats/codec/matrix_view.h"

namespace rwkv::edge {

/// Rows [first_row, first_row + n_rows) of a matrix: piece `step` of the stream, which says what it
/// has of them.
struct MatrixPart {
  uint64_t first_row = 0;
  uint64_t n_rows = 0;
  uint32_t step = 0;
};

/// The view has the units of the whole matrix if they are in memory, or else the shape: then
/// `parts`, in the order of the rows, have them, or a RowStore.
struct Matrix : MatrixView {
  Matrix() = default;
  Matrix(const MatrixView& view, std::span<const MatrixPart> in_parts = {})
      : MatrixView(view), parts(in_parts) {}
  std::span<const MatrixPart> parts;
};

}  // namespace rwkv::edge

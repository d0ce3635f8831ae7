// A matrix that may lie in parts: some rows always in memory, others in a stream.
#pragma once

#include <cstdint>
#include <span>

#include "formats/codec/matrix_view.h"

namespace rwkv::edge {

/// Rows [first_row, first_row + view.rows) of a matrix.
struct MatrixPart {
  static constexpr uint32_t kAlwaysThere = UINT32_MAX;
  MatrixView view;
  uint64_t first_row = 0;
  uint32_t step = kAlwaysThere;  ///< of the stream, which must have it while the view is used
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

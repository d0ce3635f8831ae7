#pragma once

#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

// Scales of columns do not leave a sum of products: values are floats.
template <>
struct RowFormat<Codec::Mm8> : PlainRows {
  static constexpr InputForm kInputs = InputForm::Floats;
  static constexpr Element kElement = Element::Packed;
  static void unpack(const RowPlace& row, size_t first, size_t n, float* out) {
    const float scale = float_at(row.unit);
    const float offset = float_at(row.unit + 4);
    const std::byte* const codes = row.unit + 8 + first;
    const std::byte* const col_scale = row.shared + 4 * first;
    const std::byte* const col_offset = col_scale + 4 * row.cols;
    for (size_t i = 0; i < n; ++i) {
      const auto code = static_cast<float>(static_cast<uint8_t>(codes[i]));
      out[i] = (code + 0.5f) * scale * float_at(col_scale + 4 * i) + offset +
               float_at(col_offset + 4 * i);
    }
  }
};

}  // namespace
}  // namespace rwkv::edge

// mm8: ChatRWKV's int8 scheme, kept as the baseline that others compare against. Offsets and scales
// per row and per column, uint8 numbers: value = (q + 0.5) * rs * cs + ro + co. As in the original,
// the side with more entries (of equal sides the outputs) gives up its minima first, and maxima are
// taken per output first; the order changes the numbers.
#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/base/little_endian.h"
#include "formats/codec/codec.h"

namespace rwkv {
namespace {

constexpr float kSteps = 256.0f;
// The original stores both scales divided by 16, which together make the 1 / 256 of a step.
constexpr float kScaleShare = 16.0f;
// Decoding multiplies a number up to 255.5 by a row scale up to 2 * kMaxMm8 / 16 first, which must
// stay below the largest float.
constexpr float kMaxMm8 = 1e37f;

uint64_t row_bytes(uint64_t cols) {
  return cols;
}
uint64_t encoded_bytes(uint64_t rows, uint64_t cols) {
  return mm8_layout(rows, cols).total;
}

float smaller(float a, float b) {
  return std::min(a, b);
}
float larger(float a, float b) {
  return std::max(a, b);
}

// A scale of zero (a constant row or column) would divide 0 by 0; 1 gives the same zeros.
std::vector<float> no_zeros(std::vector<float> scales) {
  std::replace(scales.begin(), scales.end(), 0.0f, 1.0f);
  return scales;
}

// The matrix as it shrinks from values to fractions of their scales.
struct Work {
  std::vector<float> values;
  uint64_t rows;
  uint64_t cols;

  template <typename Fold>
  std::vector<float> fold_rows(Fold fold) const {
    std::vector<float> result(rows);
    for (uint64_t r = 0; r < rows; ++r) {
      float x = values[r * cols];
      for (uint64_t c = 1; c < cols; ++c) {
        x = fold(x, values[r * cols + c]);
      }
      result[r] = x;
    }
    return result;
  }
  template <typename Fold>
  std::vector<float> fold_cols(Fold fold) const {
    std::vector<float> result(values.begin(), values.begin() + static_cast<int64_t>(cols));
    for (uint64_t r = 1; r < rows; ++r) {
      for (uint64_t c = 0; c < cols; ++c) {
        result[c] = fold(result[c], values[r * cols + c]);
      }
    }
    return result;
  }
  template <typename Apply>
  void each(Apply apply) {
    for (uint64_t r = 0; r < rows; ++r) {
      for (uint64_t c = 0; c < cols; ++c) {
        apply(values[r * cols + c], r, c);
      }
    }
  }

  std::vector<float> take_row_minima() {
    const std::vector<float> minima = fold_rows(smaller);
    each([&](float& x, uint64_t r, uint64_t) { x -= minima[r]; });
    return minima;
  }
  std::vector<float> take_col_minima() {
    const std::vector<float> minima = fold_cols(smaller);
    each([&](float& x, uint64_t, uint64_t c) { x -= minima[c]; });
    return minima;
  }
  std::vector<float> take_row_maxima() {
    const std::vector<float> maxima = no_zeros(fold_rows(larger));
    each([&](float& x, uint64_t r, uint64_t) { x /= maxima[r]; });
    return maxima;
  }
  std::vector<float> take_col_maxima() {
    const std::vector<float> maxima = no_zeros(fold_cols(larger));
    each([&](float& x, uint64_t, uint64_t c) { x /= maxima[c]; });
    return maxima;
  }
};

void store_vector(std::span<std::byte> out, uint64_t at, const std::vector<float>& values,
                  float divisor) {
  for (size_t i = 0; i < values.size(); ++i) {
    store_le(out.data() + at + i * sizeof(float), values[i] / divisor);
  }
}

Status encode(std::span<const float> values, const MatrixShape& shape, std::span<std::byte> out) {
  const auto [rows, cols, outputs] = shape;
  RWKV_TRY(check_finite(values, cols, kMaxMm8, "mm8"));
  Work work{{values.begin(), values.end()}, rows, cols};
  std::vector<float> row_offset;
  std::vector<float> col_offset;
  const bool outputs_first = outputs == Outputs::Rows ? rows >= cols : cols >= rows;
  if (outputs_first == (outputs == Outputs::Rows)) {
    row_offset = work.take_row_minima();
    col_offset = work.take_col_minima();
  } else {
    col_offset = work.take_col_minima();
    row_offset = work.take_row_minima();
  }
  std::vector<float> row_scale;
  std::vector<float> col_scale;
  if (outputs == Outputs::Rows) {
    row_scale = work.take_row_maxima();
    col_scale = work.take_col_maxima();
  } else {
    col_scale = work.take_col_maxima();
    row_scale = work.take_row_maxima();
  }

  const Mm8Layout layout = mm8_layout(rows, cols);
  store_vector(out, 0, row_scale, kScaleShare);
  store_vector(out, layout.row_offset, row_offset, 1.0f);
  store_vector(out, layout.col_scale, col_scale, kScaleShare);
  store_vector(out, layout.col_offset, col_offset, 1.0f);
  for (uint64_t i = 0; i < rows * cols; ++i) {
    const float q = std::clamp(std::floor(work.values[i] * kSteps), 0.0f, 255.0f);
    out[layout.numbers + i] = static_cast<std::byte>(static_cast<uint8_t>(q));
  }
  return {};
}

void decode_rows(std::span<const std::byte> bytes, uint64_t rows, uint64_t cols, uint64_t first,
                 uint64_t n, std::span<float> out) {
  const Mm8Layout layout = mm8_layout(rows, cols);
  const auto f32_at = [&](uint64_t at, uint64_t i) {
    return load_le<float>(bytes.data() + at + i * sizeof(float));
  };
  for (uint64_t r = first; r < first + n; ++r) {
    const float row_scale = f32_at(0, r);
    const float row_offset = f32_at(layout.row_offset, r);
    for (uint64_t c = 0; c < cols; ++c) {
      const auto q = static_cast<float>(static_cast<uint8_t>(bytes[layout.numbers + r * cols + c]));
      out[(r - first) * cols + c] = (q + 0.5f) * row_scale * f32_at(layout.col_scale, c) +
                                    row_offset + f32_at(layout.col_offset, c);
    }
  }
}

}  // namespace

Mm8Layout mm8_layout(uint64_t rows, uint64_t cols) {
  Mm8Layout layout{};
  layout.row_offset = rows * sizeof(float);
  layout.col_scale = layout.row_offset + rows * sizeof(float);
  layout.col_offset = layout.col_scale + cols * sizeof(float);
  layout.numbers = layout.col_offset + cols * sizeof(float);
  layout.total = layout.numbers + rows * cols;
  return layout;
}

const CodecTraits kCodecMm8 = {
    Codec::Mm8, "mm8",         GgmlType::I8,
    7,          false,         "ChatRWKV's int8 with scales and offsets per row and column",
    row_bytes,  encoded_bytes, encode,
    decode_rows};

}  // namespace rwkv

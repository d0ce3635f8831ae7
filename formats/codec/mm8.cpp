// mm8: ChatRWKV's int8 scheme, kept as the baseline that others compare against. Rows share f32
// scales cs and f32 offsets co of the columns; a row is its f32 scale rs, its f32 offset ro and
// uint8 numbers q, and a value (q + 0.5) * rs * cs + ro + co. As in the original, the side with
// more entries (the outputs, if both are equal) subtracts its minima first, and maxima are taken
// per output first; the order changes the values.
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

constexpr uint64_t kRowOffsetAt = 4;
constexpr uint64_t kRowHeader = 8;

uint64_t shared_bytes(uint64_t cols) {
  return 2 * cols * sizeof(float);
}
uint64_t row_bytes(uint64_t cols) {
  return kRowHeader + cols;
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

// Of the rows or of the columns.
struct Scales {
  std::vector<float> scale;
  std::vector<float> offset;
};

// The matrix on its way from values to fractions of their scales.
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

void store(std::byte* to, const Work& work, const Scales& rows, const Scales& cols) {
  std::byte* const col_offsets = to + work.cols * sizeof(float);
  for (uint64_t c = 0; c < work.cols; ++c) {
    store_le(to + c * sizeof(float), cols.scale[c] / kScaleShare);
    store_le(col_offsets + c * sizeof(float), cols.offset[c]);
  }
  std::byte* row = to + shared_bytes(work.cols);
  for (uint64_t r = 0; r < work.rows; ++r, row += row_bytes(work.cols)) {
    store_le(row, rows.scale[r] / kScaleShare);
    store_le(row + kRowOffsetAt, rows.offset[r]);
    for (uint64_t c = 0; c < work.cols; ++c) {
      const float fraction = work.values[r * work.cols + c];
      const float q = std::clamp(std::floor(fraction * kSteps), 0.0f, 255.0f);
      row[kRowHeader + c] = static_cast<std::byte>(static_cast<uint8_t>(q));
    }
  }
}

Status encode(std::span<const float> values, const MatrixShape& shape, std::span<std::byte> out) {
  const uint64_t rows = shape.rows;
  const uint64_t cols = shape.cols;
  RWKV_TRY(check_finite(values, shape, kMaxMm8, "mm8"));
  Work work{{values.begin(), values.end()}, rows, cols};
  Scales of_rows;
  Scales of_cols;
  const bool outputs_first = shape.outputs == Outputs::Rows ? rows >= cols : cols >= rows;
  if (outputs_first == (shape.outputs == Outputs::Rows)) {
    of_rows.offset = work.take_row_minima();
    of_cols.offset = work.take_col_minima();
  } else {
    of_cols.offset = work.take_col_minima();
    of_rows.offset = work.take_row_minima();
  }
  if (shape.outputs == Outputs::Rows) {
    of_rows.scale = work.take_row_maxima();
    of_cols.scale = work.take_col_maxima();
  } else {
    of_cols.scale = work.take_col_maxima();
    of_rows.scale = work.take_row_maxima();
  }
  store(out.data(), work, of_rows, of_cols);
  return {};
}

struct Affine {
  float scale;
  float offset;
};
Affine of_row(const std::byte* row) {
  return {load_le<float>(row), load_le<float>(row + kRowOffsetAt)};
}
Affine of_col(const MatrixView& w, uint64_t col) {
  const std::byte* const scale = w.shared + col * sizeof(float);
  return {load_le<float>(scale), load_le<float>(scale + w.cols * sizeof(float))};
}

void decode_rows(const MatrixView& w, uint64_t first, uint64_t n, std::span<float> out) {
  for (uint64_t r = 0; r < n; ++r) {
    const std::byte* const row = w.units + (first + r) * row_bytes(w.cols);
    const auto [row_scale, row_offset] = of_row(row);
    for (uint64_t c = 0; c < w.cols; ++c) {
      const auto [col_scale, col_offset] = of_col(w, c);
      const auto q = static_cast<float>(static_cast<uint8_t>(row[kRowHeader + c]));
      out[r * w.cols + c] = (q + 0.5f) * row_scale * col_scale + row_offset + col_offset;
    }
  }
}

// Half a step of 1/256 and the rounding of offsets and products; the divided scales of denormal
// values lose their last bits.
double error_bound(const MatrixView& w, uint64_t row, uint64_t col, float /*value*/) {
  const auto [row_scale, row_offset] = of_row(w.units + row * row_bytes(w.cols));
  const auto [col_scale, col_offset] = of_col(w, col);
  const double step = static_cast<double>(row_scale) * static_cast<double>(col_scale);
  const double offsets =
      std::fabs(static_cast<double>(row_offset)) + std::fabs(static_cast<double>(col_offset));
  return step * (0.5 + 1e-3) + (offsets + 256 * step) * 0x1p-21 + 2e-42;
}

}  // namespace

const CodecTraits kCodecMm8 = {
    .codec = Codec::Mm8,
    .name = "mm8",
    .summary = "ChatRWKV's int8 with scales and offsets per row and column",
    .bits = 8,
    .is_lossy = true,
    .for_predictors = false,
    .group = 0,
    .unit_rows = 1,
    .shared_bytes = shared_bytes,
    .unit_bytes = row_bytes,
    .encode = encode,
    .decode_rows = decode_rows,
    .error_bound = error_bound,
};

}  // namespace rwkv

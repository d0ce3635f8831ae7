// sign_row: f16 low, f16 high, then one bit a value, lowest bit first, zeros up to a multiple of 4
// bytes; a value is bit ? high : low, the means of the row's values above the row's mean and of the
// others. Made for predictors of sparse activations: a threshold at the row's own mean
// withstands outliers; a threshold halfway between the smallest and the largest value of a matrix
// does not.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/codec/codec.h"

namespace rwkv {
namespace {

constexpr uint64_t kHighAt = 2;
constexpr uint64_t kHeader = 4;
constexpr float kMaxHalf = 65504.0f;

uint64_t row_bytes(uint64_t cols) {
  return align_up(kHeader + (cols + 7) / 8, 4);
}

double mean_of(std::span<const float> row) {
  double sum = 0.0;
  for (const float x : row) {
    sum += static_cast<double>(x);
  }
  return sum / static_cast<double>(row.size());
}

void encode_row(std::span<const float> row, std::byte* out) {
  const double mean = mean_of(row);
  std::array<double, 2> sums = {};
  std::array<size_t, 2> counts = {};
  std::fill_n(out + kHeader, row_bytes(row.size()) - kHeader, std::byte{0});
  for (size_t i = 0; i < row.size(); ++i) {
    const bool is_high = static_cast<double>(row[i]) > mean;
    sums[is_high] += static_cast<double>(row[i]);
    ++counts[is_high];
    if (is_high) {
      out[kHeader + i / 8] |= static_cast<std::byte>(1u << (i % 8));
    }
  }
  // A constant row has no value above its mean; then both levels are the constant.
  const double low = counts[0] > 0 ? sums[0] / static_cast<double>(counts[0]) : mean;
  const double high = counts[1] > 0 ? sums[1] / static_cast<double>(counts[1]) : low;
  store_le(out, f32_to_f16(static_cast<float>(low)));
  store_le(out + kHighAt, f32_to_f16(static_cast<float>(high)));
}

Status encode(std::span<const float> values, const MatrixShape& shape, std::span<std::byte> out) {
  RWKV_TRY(check_finite(values, shape, kMaxHalf, "sign_row"));
  for (uint64_t row = 0; row < shape.rows; ++row) {
    encode_row(values.subspan(row * shape.cols, shape.cols),
               out.data() + row * row_bytes(shape.cols));
  }
  return {};
}

void decode_rows(const MatrixView& w, uint64_t first, uint64_t n, std::span<float> out) {
  for (uint64_t row = 0; row < n; ++row) {
    const std::byte* from = w.units + (first + row) * row_bytes(w.cols);
    const float low = f16_to_f32(load_le<uint16_t>(from));
    const float high = f16_to_f32(load_le<uint16_t>(from + kHighAt));
    for (uint64_t i = 0; i < w.cols; ++i) {
      const auto bits = static_cast<unsigned>(from[kHeader + i / 8]);
      out[row * w.cols + i] = ((bits >> (i % 8)) & 1u) != 0 ? high : low;
    }
  }
}

// Two levels, wherever the values are.
double error_bound(const MatrixView& /*w*/, uint64_t /*row*/, uint64_t /*col*/, float /*value*/) {
  return std::numeric_limits<double>::infinity();
}

}  // namespace

const CodecTraits kCodecSignRow = {
    .codec = Codec::SignRow,
    .name = "sign_row",
    .summary = "one bit, two f16 levels per row; for predictors",
    .bits = 1,
    .is_lossy = true,
    .for_predictors = true,
    .group = 0,
    .unit_rows = 1,
    .shared_bytes = nothing_shared,
    .unit_bytes = row_bytes,
    .encode = encode,
    .decode_rows = decode_rows,
    .error_bound = error_bound,
};

}  // namespace rwkv

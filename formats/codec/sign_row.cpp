// sign_row: one bit per number and two half floats per row, the mean of the numbers above the row's
// mean and the mean of the others. Made for predictors of sparse activations: a cut at the row's
// own mean stands outliers, which a cut between the smallest and the largest number of a matrix
// does not.
#include <algorithm>
#include <array>
#include <cmath>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/codec/codec.h"

namespace rwkv {
namespace {

constexpr float kMaxHalf = 65504.0f;

uint64_t encoded_bytes(uint64_t rows, uint64_t cols) {
  return rows * sign_row_bytes(cols);
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
  std::fill_n(out + kSignRowHeader, sign_row_bytes(row.size()) - kSignRowHeader, std::byte{0});
  for (size_t i = 0; i < row.size(); ++i) {
    const bool is_high = static_cast<double>(row[i]) > mean;
    sums[is_high] += static_cast<double>(row[i]);
    ++counts[is_high];
    if (is_high) {
      out[kSignRowHeader + i / 8] |= static_cast<std::byte>(1u << (i % 8));
    }
  }
  // A constant row has no number above its mean; both levels are the constant then.
  const double low = counts[0] > 0 ? sums[0] / static_cast<double>(counts[0]) : mean;
  const double high = counts[1] > 0 ? sums[1] / static_cast<double>(counts[1]) : low;
  store_le(out, f32_to_f16(static_cast<float>(low)));
  store_le(out + kSignRowHighAt, f32_to_f16(static_cast<float>(high)));
}

Status encode(std::span<const float> values, const MatrixShape& shape, std::span<std::byte> out) {
  RWKV_TRY(check_finite(values, shape.cols, kMaxHalf, "sign_row"));
  for (uint64_t row = 0; row < shape.rows; ++row) {
    encode_row(values.subspan(row * shape.cols, shape.cols),
               out.data() + row * sign_row_bytes(shape.cols));
  }
  return {};
}

void decode_rows(std::span<const std::byte> bytes, uint64_t /*rows*/, uint64_t cols, uint64_t first,
                 uint64_t n, std::span<float> out) {
  for (uint64_t row = 0; row < n; ++row) {
    const std::byte* from = bytes.data() + (first + row) * sign_row_bytes(cols);
    const float low = f16_to_f32(load_le<uint16_t>(from));
    const float high = f16_to_f32(load_le<uint16_t>(from + kSignRowHighAt));
    for (uint64_t i = 0; i < cols; ++i) {
      const auto bits = static_cast<unsigned>(from[kSignRowHeader + i / 8]);
      out[row * cols + i] = ((bits >> (i % 8)) & 1u) != 0 ? high : low;
    }
  }
}

}  // namespace

uint64_t sign_row_bytes(uint64_t cols) {
  return align_up(kSignRowHeader + (cols + 7) / 8, 4);
}

const CodecTraits kCodecSignRow = {
    Codec::SignRow, "sign_row",
    GgmlType::I8,   7,
    true,           "one bit, two f16 levels per row; for predictors",
    sign_row_bytes, encoded_bytes,
    encode,         decode_rows};

}  // namespace rwkv

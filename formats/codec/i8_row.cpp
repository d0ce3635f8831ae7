// i8_row: int8 with one f32 scale per row, symmetric around zero. The scale lies in front of its
// row, so one read brings a row whole. Symmetric, because an offset per row bought nothing on
// trained models (docs/quality.md, "Symmetric or with offset").
#include <cmath>

#include "formats/base/little_endian.h"
#include "formats/codec/codec.h"

namespace rwkv {
namespace {

constexpr float kMaxQ = 127.0f;

uint64_t encoded_bytes(uint64_t rows, uint64_t cols) {
  return rows * i8_row_bytes(cols);
}

float scale_of(std::span<const float> row) {
  float largest = 0.0f;
  for (const float value : row) {
    largest = std::fmax(largest, std::fabs(value));
  }
  return largest / kMaxQ;
}

void encode_row(std::span<const float> row, std::byte* out) {
  const float scale = scale_of(row);
  // A row of zeros, or of values too small to divide by, becomes zeros.
  const float inverse = scale > 0.0f && std::isfinite(1.0f / scale) ? 1.0f / scale : 0.0f;
  store_le(out, inverse == 0.0f ? 0.0f : scale);
  for (size_t i = 0; i < row.size(); ++i) {
    const float q = std::fmin(kMaxQ, std::fmax(-kMaxQ, std::nearbyint(row[i] * inverse)));
    out[kI8RowHeader + i] = static_cast<std::byte>(static_cast<int8_t>(q));
  }
  for (uint64_t i = kI8RowHeader + row.size(); i < i8_row_bytes(row.size()); ++i) {
    out[i] = std::byte{0};
  }
}

Status encode(std::span<const float> values, const MatrixShape& shape, std::span<std::byte> out) {
  RWKV_TRY(check_finite(values, shape.cols, 3.4e38f, "i8_row"));
  for (uint64_t row = 0; row < shape.rows; ++row) {
    encode_row(values.subspan(row * shape.cols, shape.cols),
               out.data() + row * i8_row_bytes(shape.cols));
  }
  return {};
}

void decode_rows(std::span<const std::byte> bytes, uint64_t /*rows*/, uint64_t cols, uint64_t first,
                 uint64_t n, std::span<float> out) {
  for (uint64_t row = 0; row < n; ++row) {
    const std::byte* from = bytes.data() + (first + row) * i8_row_bytes(cols);
    const auto scale = load_le<float>(from);
    for (uint64_t i = 0; i < cols; ++i) {
      out[row * cols + i] = scale * static_cast<float>(static_cast<int8_t>(from[kI8RowHeader + i]));
    }
  }
}

}  // namespace

uint64_t i8_row_bytes(uint64_t cols) {
  return align_up(kI8RowHeader + cols, 4);
}

const CodecTraits kCodecI8Row = {
    Codec::I8Row, "i8_row",      GgmlType::I8, 7,          true, "int8, one f32 scale per row",
    i8_row_bytes, encoded_bytes, encode,       decode_rows};

}  // namespace rwkv

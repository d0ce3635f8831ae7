// f16: IEEE half precision, rounded to nearest even.
#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/codec/codec.h"

namespace rwkv {
namespace {

// The largest value that does not round to infinity.
constexpr float kMaxF16 = 65504.0f;

uint64_t row_bytes(uint64_t cols) {
  return cols * sizeof(uint16_t);
}
uint64_t encoded_bytes(uint64_t rows, uint64_t cols) {
  return rows * row_bytes(cols);
}

Status encode(std::span<const float> values, const MatrixShape& shape, std::span<std::byte> out) {
  RWKV_TRY(check_finite(values, shape.cols, kMaxF16, "f16"));
  for (size_t i = 0; i < values.size(); ++i) {
    store_le(out.data() + i * sizeof(uint16_t), f32_to_f16(values[i]));
  }
  return {};
}

void decode_rows(std::span<const std::byte> bytes, uint64_t /*rows*/, uint64_t cols, uint64_t first,
                 uint64_t n, std::span<float> out) {
  const std::byte* from = bytes.data() + first * row_bytes(cols);
  for (uint64_t i = 0; i < n * cols; ++i) {
    out[i] = f16_to_f32(load_le<uint16_t>(from + i * sizeof(uint16_t)));
  }
}

}  // namespace

const CodecTraits kCodecF16 = {
    Codec::F16, "f16",         GgmlType::F16, 1,          true, "IEEE half precision",
    row_bytes,  encoded_bytes, encode,        decode_rows};

}  // namespace rwkv

// f32: IEEE single precision as it is; every bit pattern is kept.
#include <cstring>

#include "formats/codec/codec.h"

namespace rwkv {
namespace {

uint64_t row_bytes(uint64_t cols) {
  return cols * sizeof(float);
}
uint64_t encoded_bytes(uint64_t rows, uint64_t cols) {
  return rows * row_bytes(cols);
}

Status encode(std::span<const float> values, const MatrixShape& /*shape*/,
              std::span<std::byte> out) {
  std::memcpy(out.data(), values.data(), values.size_bytes());
  return {};
}

void decode_rows(std::span<const std::byte> bytes, uint64_t /*rows*/, uint64_t cols, uint64_t first,
                 uint64_t n, std::span<float> out) {
  std::memcpy(out.data(), bytes.data() + first * row_bytes(cols), n * row_bytes(cols));
}

}  // namespace

const CodecTraits kCodecF32 = {
    Codec::F32, "f32",         GgmlType::F32, 0,          true, "IEEE single precision, lossless",
    row_bytes,  encoded_bytes, encode,        decode_rows};

}  // namespace rwkv

// f32: IEEE single precision as it is; every bit pattern is kept.
#include <cstring>

#include "formats/codec/codec.h"

namespace rwkv {
namespace {

uint64_t row_bytes(uint64_t cols) {
  return cols * sizeof(float);
}

Status encode(std::span<const float> values, const MatrixShape& /*shape*/,
              std::span<std::byte> out) {
  std::memcpy(out.data(), values.data(), values.size_bytes());
  return {};
}

void decode_rows(const MatrixView& w, uint64_t first, uint64_t n, std::span<float> out) {
  std::memcpy(out.data(), w.units + first * row_bytes(w.cols), n * row_bytes(w.cols));
}

double error_bound(const MatrixView& /*w*/, uint64_t /*row*/, uint64_t /*col*/, float /*value*/) {
  return 0.0;
}

}  // namespace

const CodecTraits kCodecF32 = {
    .codec = Codec::F32,
    .name = "f32",
    .summary = "IEEE single precision, lossless",
    .bits = 32,
    .is_lossy = false,
    .for_predictors = false,
    .group = 0,
    .unit_rows = 1,
    .shared_bytes = nothing_shared,
    .unit_bytes = row_bytes,
    .encode = encode,
    .decode_rows = decode_rows,
    .error_bound = error_bound,
};

}  // namespace rwkv

// f16: IEEE half precision, rounded to nearest even.
#include <algorithm>
#include <cmath>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/codec/codec.h"

namespace rwkv {
namespace {

// The largest value that does not round to infinity.
constexpr float kMaxF16 = 65504.0f;
constexpr int kLeastExponent = -14;
constexpr int kFractionBits = 10;

uint64_t row_bytes(uint64_t cols) {
  return cols * sizeof(uint16_t);
}

Status encode(std::span<const float> values, const MatrixShape& shape, std::span<std::byte> out) {
  RWKV_TRY(check_finite(values, shape, kMaxF16, "f16"));
  for (size_t i = 0; i < values.size(); ++i) {
    store_le(out.data() + i * sizeof(uint16_t), f32_to_f16(values[i]));
  }
  return {};
}

void decode_rows(const MatrixView& w, uint64_t first, uint64_t n, std::span<float> out) {
  const std::byte* from = w.units + first * row_bytes(w.cols);
  for (uint64_t i = 0; i < n * w.cols; ++i) {
    out[i] = f16_to_f32(load_le<uint16_t>(from + i * sizeof(uint16_t)));
  }
}

// Half of the last bit's value.
double error_bound(const MatrixView& /*w*/, uint64_t /*row*/, uint64_t /*col*/, float value) {
  const int exponent = value == 0.0f ? kLeastExponent : std::max(std::ilogb(value), kLeastExponent);
  return std::ldexp(0.5, exponent - kFractionBits);
}

}  // namespace

const CodecTraits kCodecF16 = {
    .codec = Codec::F16,
    .name = "f16",
    .summary = "IEEE half precision",
    .bits = 16,
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

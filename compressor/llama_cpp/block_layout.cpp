#include "compressor/llama_cpp/block_layout.h"

#include <algorithm>
#include <cmath>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/container/ggml_blocks.h"
#include "formats/container/ggml_super_blocks.h"

namespace rwkv::press {
namespace {

// Room for `n` bytes at the end, zeros.
std::byte* extend(std::vector<std::byte>& out, size_t n) {
  out.resize(out.size() + n);
  return out.data() + out.size() - n;
}

void store_half(std::byte* to, float value) {
  store_le(to, f32_to_f16(value));
}

std::byte pair(unsigned low, unsigned high) {
  return static_cast<std::byte>(low | high << 4);
}

}  // namespace

void append_blocks_of_4_bits(const BlockRow& row, std::vector<std::byte>& out) {
  for (size_t block = 0; block < row.steps.size(); ++block) {
    std::byte* to = extend(out, kQ4_0Bytes);
    store_half(to, row.steps[block]);
    const uint8_t* codes = row.codes.data() + block * kGgmlBlock;
    for (size_t i = 0; i < kGgmlBlock / 2; ++i) {
      to[2 + i] = pair(codes[i], codes[kGgmlBlock / 2 + i]);
    }
  }
}

void append_q8_0(std::span<const float> values, std::vector<std::byte>& out) {
  constexpr float kMost = 127;
  for (size_t at = 0; at < values.size(); at += kGgmlBlock) {
    std::byte* to = extend(out, kQ8_0Bytes);
    float largest = 0;
    for (size_t i = 0; i < kGgmlBlock; ++i) {
      largest = std::max(largest, std::fabs(values[at + i]));
    }
    const uint16_t half = f32_to_f16(largest / kMost);
    const float inverse = 1 / f16_to_f32(half);
    store_le(to, half);
    for (size_t i = 0; i < kGgmlBlock; ++i) {
      const float code = std::isfinite(inverse) ? values[at + i] * inverse : 0;
      store_le(to + 2 + i, static_cast<int8_t>(std::lround(std::clamp(code, -kMost, kMost))));
    }
  }
}

void append_q6_k(std::span<const uint8_t> codes, const SuperScales& scales,
                 std::vector<std::byte>& out) {
  std::byte* to = extend(out, kQ6KBytes);
  std::byte* high = to + 128;
  for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
    // Low halves in two chunks of 64 bytes, the upper two bits in two of 32.
    const size_t chunk = i / 128;
    const size_t within = i % 128;
    to[chunk * 64 + within % 64] |= static_cast<std::byte>((codes[i] & 15u) << within / 64 * 4);
    high[chunk * 32 + within % 32] |= static_cast<std::byte>((codes[i] >> 4) << within / 32 * 2);
  }
  for (size_t i = 0; i < scales.scales.size(); ++i) {
    store_le(to + 192 + i, static_cast<int8_t>(scales.scales[i]));
  }
  store_half(to + 208, scales.unit);
}

void append_q4_k(std::span<const uint8_t> codes, const SuperScales& scales,
                 std::vector<std::byte>& out) {
  std::byte* to = extend(out, kQ4KBytes);
  store_half(to, scales.unit);
  store_half(to + 2, scales.minimum);
  std::byte* packed = to + 4;
  for (size_t part = 0; part < 8; ++part) {
    const auto scale = static_cast<unsigned>(scales.scales[part]);
    const auto minimum = static_cast<unsigned>(scales.minima[part]);
    if (part < 4) {
      packed[part] |= static_cast<std::byte>(scale);
      packed[part + 4] |= static_cast<std::byte>(minimum);
    } else {
      packed[part + 4] = pair(scale & 15u, minimum & 15u);
      packed[part - 4] |= static_cast<std::byte>(scale >> 4 << 6);
      packed[part] |= static_cast<std::byte>(minimum >> 4 << 6);
    }
  }
  for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
    to[16 + i / 64 * 32 + i % 32] |= static_cast<std::byte>(codes[i] << i % 64 / 32 * 4);
  }
}

}  // namespace rwkv::press

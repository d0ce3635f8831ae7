// Inputs of products with lut codecs: bytes, with a step for every 64 columns. A plain loop that
// the compiler vectorises for each set; the same bits in all.
#pragma once

#include <bit>

#include "runtime/kernels/kernels.h"

namespace rwkv::edge {
namespace {

// Adding and subtracting it rounds floats of up to 22 bits to nearest, ties to even.
constexpr float kRounder = 12582912.0f;
constexpr float kMostByte = 127.0f;

// Of the largest magnitude, which floats have in the order of their bits; NaN comes after infinity.
// The compiler vectorises a maximum of integers, but not one of floats.
inline int32_t largest_bits(const float* x) {
  int32_t most = 0;
  for (size_t i = 0; i < kByteGroup; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(x[i]) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return most;
}

[[gnu::noinline]] void quantize_byte_group(const float* x, int8_t* q, float* step, int32_t* sum) {
  constexpr int32_t kInfinity = 0x7f800000;
  const int32_t bits = largest_bits(x);
  const float most = std::bit_cast<float>(bits);
  // Inputs that are too small to divide by count as zeros.
  const float inverse = most > 1e-36f && most <= 3e38f ? kMostByte / most : 0.0f;
  // NaN if an input is not finite, so that outputs show it.
  *step = bits >= kInfinity ? std::bit_cast<float>(0x7fc00000)
          : inverse > 0.0f  ? most / kMostByte
                            : 0.0f;
  int32_t total = 0;
  for (size_t i = 0; i < kByteGroup; ++i) {
    const float scaled = x[i] * inverse;
    // The largest input may come out a little beyond; what is not a number shows in the step.
    const float below = scaled < kMostByte ? scaled : kMostByte;
    const float within = below > -kMostByte ? below : -kMostByte;
    const auto rounded = static_cast<int32_t>((within + kRounder) - kRounder);
    q[i] = static_cast<int8_t>(rounded);
    total += rounded;
  }
  *sum = total;
}

void quantize_byte_groups(const float* x, size_t cols, int8_t* q, float* steps, int32_t* sums) {
  const size_t whole = cols / kByteGroup * kByteGroup;
  for (size_t begin = 0; begin < whole; begin += kByteGroup) {
    quantize_byte_group(x + begin, q + begin, steps++, sums++);
  }
  if (whole < cols) {
    float rest[kByteGroup] = {};
    for (size_t i = whole; i < cols; ++i) {
      rest[i - whole] = x[i];
    }
    quantize_byte_group(rest, q + whole, steps, sums);
  }
}

}  // namespace
}  // namespace rwkv::edge

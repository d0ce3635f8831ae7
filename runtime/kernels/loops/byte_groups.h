// Inputs of products with lut codecs: bytes, with a step for every 64 columns. A plain loop that
// the compiler vectorises for each set; the same bits in all.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge {
namespace {

// Adding and subtracting it rounds floats of up to 22 bits to nearest, ties to even.
constexpr float kRounder = 12582912.0f;
constexpr float kMostByte = 127.0f;

inline void quantize_byte_group(const float (&x)[kByteGroup], int8_t* q, float* step,
                                int32_t* sum) {
  float most = 0.0f;
  float spoiled = 0.0f;  // NaN if an input is not finite, so that outputs show it
  for (size_t i = 0; i < kByteGroup; ++i) {
    const float size = x[i] < 0.0f ? -x[i] : x[i];
    most = size > most ? size : most;
  }
  for (size_t i = 0; i < kByteGroup; ++i) {
    spoiled += x[i] * 0.0f;
  }
  // Inputs that are too small to divide by count as zeros.
  const float inverse = most > 1e-36f && most <= 3e38f ? kMostByte / most : 0.0f;
  *step = (inverse > 0.0f ? most / kMostByte : 0.0f) + spoiled;
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
  for (size_t begin = 0; begin < cols; begin += kByteGroup) {
    float group[kByteGroup] = {};
    const size_t n = cols - begin < kByteGroup ? cols - begin : kByteGroup;
    for (size_t i = 0; i < n; ++i) {
      group[i] = x[begin + i];
    }
    quantize_byte_group(group, q + begin, steps++, sums++);
  }
}

}  // namespace
}  // namespace rwkv::edge

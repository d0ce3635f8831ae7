// Inputs of products as integers.
#pragma once

#include <cmath>

#include "runtime/kernels/kernels.h"

namespace rwkv::edge::generic {
namespace {

void quantize_input(const float* x, size_t cols, int16_t* q, float* step, float* sum) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes] = {};
  float most = 0.0f;
  for (size_t i = 0; i < cols; ++i) {
    lanes[i % kLanes] += x[i];
    most = std::fabs(x[i]) > most ? std::fabs(x[i]) : most;
  }
  *sum = 0.0f;
  for (const float lane : lanes) {
    *sum += lane;
  }
  *step = most / static_cast<float>(kMostInput);
  const float inverse = most > 0.0f ? static_cast<float>(kMostInput) / most : 0.0f;
  for (size_t i = 0; i < cols; ++i) {
    // What is not a number shows in `sum`; here it only must not be undefined.
    const float scaled = x[i] * inverse;
    q[i] = std::isfinite(scaled) ? static_cast<int16_t>(std::nearbyint(scaled)) : int16_t{0};
  }
  for (size_t i = cols; i < padded_cols(cols); ++i) {
    q[i] = 0;
  }
}

}  // namespace
}  // namespace rwkv::edge::generic

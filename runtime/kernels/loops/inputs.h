// Inputs as integers, for every set with vector registers: the bits of the generic set.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge {
namespace {

template <class S>
void quantize_input_with(const float* x, size_t cols, int16_t* q, float* step, float* sum) {
  constexpr size_t kLanes = 16;
  constexpr size_t kParts = kLanes / S::kFloats;
  typename S::F sums[kParts];
  typename S::F most = S::zero();
  for (size_t p = 0; p < kParts; ++p) {
    sums[p] = S::zero();
  }
  const size_t even = cols / kLanes * kLanes;
  for (size_t i = 0; i < even; i += kLanes) {
    for (size_t p = 0; p < kParts; ++p) {
      const typename S::F part = S::load(x + i + p * S::kFloats);
      sums[p] = S::add(sums[p], part);
      most = S::largest(most, S::magnitude(part));
    }
  }
  // The rest, padded with zeros, which change neither the sum nor the maximum.
  float rest[kLanes] = {};
  for (size_t i = even; i < cols; ++i) {
    rest[i - even] = x[i];
  }
  float lanes[kLanes];
  float all_most = 0.0f;
  for (size_t p = 0; p < kParts; ++p) {
    const typename S::F part = S::load(rest + p * S::kFloats);
    S::store(lanes + p * S::kFloats, S::add(sums[p], part));
    most = S::largest(most, S::magnitude(part));
  }
  *sum = 0.0f;
  for (const float lane : lanes) {
    *sum += lane;
  }
  S::store(lanes, most);
  for (size_t lane = 0; lane < S::kFloats; ++lane) {
    all_most = all_most < lanes[lane] ? lanes[lane] : all_most;
  }
  *step = all_most / static_cast<float>(kMostInput);
  const typename S::F inverse =
      S::all(all_most > 0.0f ? static_cast<float>(kMostInput) / all_most : 0.0f);
  for (size_t i = 0; i < even; i += S::kFloats) {
    S::store_rounded(q + i, S::mul(S::load(x + i), inverse));
  }
  for (size_t p = 0; p < kParts && even < cols; ++p) {
    S::store_rounded(q + even + p * S::kFloats, S::mul(S::load(rest + p * S::kFloats), inverse));
  }
  for (size_t i = (cols + kLanes - 1) / kLanes * kLanes; i < padded_cols(cols); ++i) {
    q[i] = 0;
  }
}

}  // namespace
}  // namespace rwkv::edge

// The wkv recurrences with a matrix state per head. v4's scalar recurrence is in model/v4.cpp.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge::generic {
namespace {

void wkv_v5(const WkvHeadArgs& args) {
  const size_t n = args.head_size;
  for (size_t t = 0; t < args.n_tokens; ++t) {
    const float* r = args.r + t * args.stride;
    const float* k = args.k + t * args.stride;
    const float* v = args.v + t * args.stride;
    const float* w = args.w + t * args.w_stride;
    float* out = args.out + t * args.stride;
    for (size_t j = 0; j < n; ++j) {
      out[j] = 0.0f;
    }
    for (size_t i = 0; i < n; ++i) {
      float* row = args.state + i * n;
      const float r_i = r[i];
      const float k_i = k[i];
      const float u_i = args.u[i];
      const float w_i = w[i];
      for (size_t j = 0; j < n; ++j) {
        const float kv = k_i * v[j];
        out[j] += r_i * (u_i * kv + row[j]);
        row[j] = w_i * row[j] + kv;
      }
    }
  }
}

void wkv_v7(const WkvV7Args& args) {
  const size_t n = args.head.head_size;
  for (size_t t = 0; t < args.head.n_tokens; ++t) {
    const size_t at = t * args.head.stride;
    const float* r = args.head.r + at;
    const float* k = args.head.k + at;
    const float* v = args.head.v + at;
    const float* w = args.head.w + t * args.head.w_stride;
    const float* kk = args.kk + at;
    const float* kka = args.kka + at;
    float* out = args.head.out + at;
    for (size_t i = 0; i < n; ++i) {
      float* row = args.head.state + i * n;
      float removed = 0.0f;
      for (size_t j = 0; j < n; ++j) {
        removed += row[j] * kk[j];
      }
      float sum = 0.0f;
      for (size_t j = 0; j < n; ++j) {
        row[j] = row[j] * w[j] - removed * kka[j] + v[i] * k[j];
        sum += row[j] * r[j];
      }
      out[i] = sum;
    }
  }
}

}  // namespace
}  // namespace rwkv::edge::generic

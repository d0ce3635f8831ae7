// The wkv recurrences for every table with vector registers; `S` is the table's Simd. Head sizes
// are multiples of a register in all known models; what is left over goes number by number.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge {
namespace {

// Columns [j, j + n * kFloats) of a head's state, all of its rows, one token: `n` registers of sums
// stay where they are.
template <class S, size_t n>
inline void wkv_v5_columns(const WkvHeadArgs& args, const float* r, const float* k, const float* v,
                           const float* w, float* out, size_t j) {
  typename S::F sums[n];
  typename S::F vs[n];
  for (size_t c = 0; c < n; ++c) {
    sums[c] = S::zero();
    vs[c] = S::load(v + j + c * S::kFloats);
  }
  for (size_t i = 0; i < args.head_size; ++i) {
    float* row = args.state + i * args.head_size + j;
    const typename S::F r_i = S::all(r[i]);
    const typename S::F k_i = S::all(k[i]);
    const typename S::F u_i = S::all(args.u[i]);
    const typename S::F w_i = S::all(w[i]);
#pragma GCC unroll 8
    for (size_t c = 0; c < n; ++c) {
      const typename S::F past = S::load(row + c * S::kFloats);
      const typename S::F kv = S::mul(k_i, vs[c]);
      sums[c] = S::fma(r_i, S::fma(u_i, kv, past), sums[c]);
      S::store(row + c * S::kFloats, S::fma(w_i, past, kv));
    }
  }
  for (size_t c = 0; c < n; ++c) {
    S::store(out + j + c * S::kFloats, sums[c]);
  }
}

template <class S>
void wkv_v5_with(const WkvHeadArgs& args) {
  constexpr size_t kTogether = 4;
  const size_t n = args.head_size;
  for (size_t t = 0; t < args.n_tokens; ++t) {
    const float* r = args.r + t * args.stride;
    const float* k = args.k + t * args.stride;
    const float* v = args.v + t * args.stride;
    const float* w = args.w + t * args.w_stride;
    float* out = args.out + t * args.stride;
    size_t j = 0;
    for (; j + kTogether * S::kFloats <= n; j += kTogether * S::kFloats) {
      wkv_v5_columns<S, kTogether>(args, r, k, v, w, out, j);
    }
    for (; j + S::kFloats <= n; j += S::kFloats) {
      wkv_v5_columns<S, 1>(args, r, k, v, w, out, j);
    }
    for (; j < n; ++j) {
      out[j] = 0.0f;
      for (size_t i = 0; i < n; ++i) {
        float& past = args.state[i * n + j];
        const float kv = k[i] * v[j];
        out[j] += r[i] * (args.u[i] * kv + past);
        past = w[i] * past + kv;
      }
    }
  }
}

// One row of a head's state of v7, one token; returns its output.
template <class S>
inline float wkv_v7_row(float* row, size_t n, const float* r, const float* k, float v_i,
                        const float* w, const float* kk, const float* kka) {
  const size_t whole = n / S::kFloats * S::kFloats;
  typename S::F taken = S::zero();
  for (size_t j = 0; j < whole; j += S::kFloats) {
    taken = S::fma(S::load(row + j), S::load(kk + j), taken);
  }
  float removed = S::sum(taken);
  for (size_t j = whole; j < n; ++j) {
    removed += row[j] * kk[j];
  }
  const typename S::F less = S::all(-removed);
  const typename S::F v_all = S::all(v_i);
  typename S::F sums = S::zero();
  for (size_t j = 0; j < whole; j += S::kFloats) {
    const typename S::F kept = S::mul(S::load(row + j), S::load(w + j));
    const typename S::F next = S::fma(v_all, S::load(k + j), S::fma(less, S::load(kka + j), kept));
    S::store(row + j, next);
    sums = S::fma(next, S::load(r + j), sums);
  }
  float sum = S::sum(sums);
  for (size_t j = whole; j < n; ++j) {
    row[j] = row[j] * w[j] - removed * kka[j] + v_i * k[j];
    sum += row[j] * r[j];
  }
  return sum;
}

template <class S>
void wkv_v7_with(const WkvV7Args& args) {
  const size_t n = args.head.head_size;
  for (size_t t = 0; t < args.head.n_tokens; ++t) {
    const size_t at = t * args.head.stride;
    const float* w = args.head.w + t * args.head.w_stride;
    for (size_t i = 0; i < n; ++i) {
      args.head.out[at + i] =
          wkv_v7_row<S>(args.head.state + i * n, n, args.head.r + at, args.head.k + at,
                        args.head.v[at + i], w, args.kk + at, args.kka + at);
    }
  }
}

}  // namespace
}  // namespace rwkv::edge

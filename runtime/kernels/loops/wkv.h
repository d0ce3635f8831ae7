// The wkv recurrences for every set with vector registers; `S` is the set's Simd. Head sizes are
// multiples of a register in all known models; remaining channels are computed one by one.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge {
namespace {

// Columns [j, j + n * kFloats) of a head's state, all of its rows, one token; the sums stay in `n`
// registers.
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

// R rows of a head's state of v7, one token; `out` and `v` have one value for each. Values that all
// rows use are loaded once.
template <class S, size_t R>
inline void wkv_v7_rows(float* state, size_t n, const float* r, const float* k, const float* v,
                        const float* w, const float* kk, const float* kka, float* out) {
  const size_t even = n / S::kFloats * S::kFloats;
  typename S::F taken[R];
#pragma GCC unroll 8
  for (size_t i = 0; i < R; ++i) {
    taken[i] = S::zero();
  }
  for (size_t j = 0; j < even; j += S::kFloats) {
    const typename S::F kk_j = S::load(kk + j);
#pragma GCC unroll 8
    for (size_t i = 0; i < R; ++i) {
      taken[i] = S::fma(S::load(state + i * n + j), kk_j, taken[i]);
    }
  }
  float removed[R];
  typename S::F less[R];
  typename S::F added[R];
  typename S::F sums[R];
#pragma GCC unroll 8
  for (size_t i = 0; i < R; ++i) {
    removed[i] = S::sum(taken[i]);
    for (size_t j = even; j < n; ++j) {
      removed[i] += state[i * n + j] * kk[j];
    }
    less[i] = S::all(-removed[i]);
    added[i] = S::all(v[i]);
    sums[i] = S::zero();
  }
  for (size_t j = 0; j < even; j += S::kFloats) {
    const typename S::F w_j = S::load(w + j);
    const typename S::F k_j = S::load(k + j);
    const typename S::F kka_j = S::load(kka + j);
    const typename S::F r_j = S::load(r + j);
#pragma GCC unroll 8
    for (size_t i = 0; i < R; ++i) {
      float* at = state + i * n + j;
      const typename S::F kept = S::mul(S::load(at), w_j);
      const typename S::F next = S::fma(added[i], k_j, S::fma(less[i], kka_j, kept));
      S::store(at, next);
      sums[i] = S::fma(next, r_j, sums[i]);
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < R; ++i) {
    out[i] = S::sum(sums[i]);
    for (size_t j = even; j < n; ++j) {
      float& number = state[i * n + j];
      number = number * w[j] - removed[i] * kka[j] + v[i] * k[j];
      out[i] += number * r[j];
    }
  }
}

template <class S>
void wkv_v7_with(const WkvV7Args& args) {
  const size_t n = args.head.head_size;
  for (size_t t = 0; t < args.head.n_tokens; ++t) {
    const size_t at = t * args.head.stride;
    const float* w = args.head.w + t * args.head.w_stride;
    const auto rows = [&]<size_t R>(size_t i) {
      wkv_v7_rows<S, R>(args.head.state + i * n, n, args.head.r + at, args.head.k + at,
                        args.head.v + at + i, w, args.kk + at, args.kka + at,
                        args.head.out + at + i);
    };
    constexpr size_t kTogether = 4;
    size_t i = 0;
    for (; i + kTogether <= n; i += kTogether) {
      rows.template operator()<kTogether>(i);
    }
    for (; i < n; ++i) {
      rows.template operator()<1>(i);
    }
  }
}

}  // namespace
}  // namespace rwkv::edge

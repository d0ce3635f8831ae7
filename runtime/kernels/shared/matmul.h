// Products with matrices stored row by row, for every table with vector registers. `S` is the
// table's Simd: F, kFloats, zero(), load(), fma(), sum(); numbers<Codec>(); for whole inputs Acc,
// kWhole, whole<Codec>(), load_whole(), dot(), total().
#pragma once

#include "runtime/kernels/shared/rows.h"

namespace rwkv::edge {
namespace {

// Rows and tokens that share registers. One sum per row and token, so that products over one token
// and over many add in the same order.
constexpr size_t kRowsOfOne = 4;
constexpr size_t kRowsOfMany = 2;
constexpr size_t kTokensOfMany = 4;
// Numbers of a row whose whole products fit a 32-bit lane: 512 of at most 128 * kMostInput.
constexpr size_t kProductsPerLane = 512;

// Where number `i` of a row lies; of one-bit rows a multiple of 8.
template <Codec kCodec>
inline const std::byte* number_at(const std::byte* numbers, size_t i) {
  return kCodec == Codec::F32       ? numbers + i * 4
         : kCodec == Codec::F16     ? numbers + i * 2
         : kCodec == Codec::SignRow ? numbers + i / 8
                                    : numbers + i;
}

template <class S, Codec kCodec, size_t R, size_t T>
struct FloatTile {
  typename S::F sums[R][T];

  void add(const std::byte* const (&numbers)[R], const float* x, size_t ldx, size_t i) {
    typename S::F xs[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      xs[t] = S::load(x + t * ldx + i);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const typename S::F w = S::template numbers<kCodec>(number_at<kCodec>(numbers[r], i));
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        sums[r][t] = S::fma(w, xs[t], sums[r][t]);
      }
    }
  }

  // The last numbers of a row, fewer than a register holds: zeros behind them add nothing.
  void add_rest(const std::byte* const (&numbers)[R], const float* x, size_t ldx, size_t i,
                size_t n) {
    constexpr size_t kBytes = kCodec == Codec::F32 ? 4 : 2;
    std::byte w[R][S::kFloats * kBytes] = {};
    float xs[T][S::kFloats] = {};
    const std::byte* starts[R];
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(w[r], number_at<kCodec>(numbers[r], i), n * kBytes);
      starts[r] = w[r];
    }
    for (size_t t = 0; t < T; ++t) {
      std::memcpy(xs[t], x + t * ldx + i, n * sizeof(float));
    }
    add(starts, xs[0], S::kFloats, 0);
  }
};

template <class S, Codec kCodec, size_t R, size_t T>
inline void float_products(const Row (&rows)[R], const Inputs& x, size_t token,
                           float (&products)[R][T]) {
  const size_t n = x.cols;
  const float* from = x.x + token * n;
  const std::byte* numbers[R];
  FloatTile<S, kCodec, R, T> tile;
  for (size_t r = 0; r < R; ++r) {
    numbers[r] = rows[r].numbers;
    for (size_t t = 0; t < T; ++t) {
      tile.sums[r][t] = S::zero();
    }
  }
  size_t i = 0;
  for (; i + S::kFloats <= n; i += S::kFloats) {
    tile.add(numbers, from, n, i);
  }
  if (i < n) {
    tile.add_rest(numbers, from, n, i, n - i);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      products[r][t] = S::sum(tile.sums[r][t]);
    }
  }
}

// Whole products of numbers [i, end), where end - i fits the lanes.
template <class S, Codec kCodec, size_t R, size_t T>
inline void add_whole(const Row (&rows)[R], const int16_t* q, size_t ldq, size_t i, size_t end,
                      int64_t (&totals)[R][T]) {
  typename S::Acc sums[R][T];
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      sums[r][t] = S::no_products();
    }
  }
  const auto add = [&](const std::byte* const(&at)[R], size_t j) __attribute__((always_inline)) {
    typename S::Whole xs[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      xs[t] = S::load_whole(q + t * ldq + j);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const auto w = S::template whole<kCodec>(at[r]);
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        sums[r][t] = S::dot(sums[r][t], w, xs[t]);
      }
    }
  };
  const std::byte* at[R];
  for (; i + S::kWhole <= end; i += S::kWhole) {
    for (size_t r = 0; r < R; ++r) {
      at[r] = number_at<kCodec>(rows[r].numbers, i);
    }
    add(at, i);
  }
  if (i < end) {
    // What lies behind a row is not ours to read.
    std::byte rest[R][S::kWhole] = {};
    const size_t n_bytes = kCodec == Codec::SignRow ? (end - i + 7) / 8 : end - i;
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(rest[r], number_at<kCodec>(rows[r].numbers, i), n_bytes);
      at[r] = rest[r];
    }
    add(at, i);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      totals[r][t] += S::template total<kCodec>(sums[r][t]);
    }
  }
}

template <class S, Codec kCodec, size_t R, size_t T>
inline void whole_products(const Row (&rows)[R], const Inputs& x, size_t token,
                           float (&products)[R][T]) {
  constexpr size_t kPart = kProductsPerLane * S::kLanes;
  const size_t ldq = padded_cols(x.cols);
  const int16_t* q = x.q + token * ldq;
  int64_t totals[R][T] = {};
  for (size_t i = 0; i < x.cols; i += kPart) {
    const size_t end = x.cols - i < kPart ? x.cols : i + kPart;
    add_whole<S, kCodec, R, T>(rows, q, ldq, i, end, totals);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      const float sum = x.step[token + t] * static_cast<float>(totals[r][t]);
      products[r][t] = rows[r].scale * sum + rows[r].offset * x.sum[token + t];
    }
  }
}

template <class S, Codec kCodec, size_t R, size_t T, class Rows>
inline void tile(const Rows& w, const Inputs& x, size_t i, size_t token, float* y, size_t ldy) {
  Row rows[R];
  for (size_t r = 0; r < R; ++r) {
    rows[r] = row_of<kCodec>(w.at(i + r));
  }
  float products[R][T];
  if constexpr (whole_inputs(kCodec)) {
    whole_products<S, kCodec, R, T>(rows, x, token, products);
  } else {
    float_products<S, kCodec, R, T>(rows, x, token, products);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      y[(token + t) * ldy + w.id(i + r)] = products[r][t];
    }
  }
}

template <class S, Codec kCodec, size_t R, class Rows>
inline void all_tokens(const Rows& w, const Inputs& x, size_t i, float* y, size_t ldy) {
  size_t t = 0;
  for (; t + kTokensOfMany <= x.n_tokens; t += kTokensOfMany) {
    tile<S, kCodec, R, kTokensOfMany>(w, x, i, t, y, ldy);
  }
  for (; t < x.n_tokens; ++t) {
    tile<S, kCodec, R, 1>(w, x, i, t, y, ldy);
  }
}

template <class S, Codec kCodec, class Rows>
inline void product(const Rows& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                    size_t end) {
  size_t i = begin;
  if (x.n_tokens == 1) {
    for (; i + kRowsOfOne <= end; i += kRowsOfOne) {
      tile<S, kCodec, kRowsOfOne, 1>(w, x, i, 0, y, ldy);
    }
  } else {
    for (; i + kRowsOfMany <= end; i += kRowsOfMany) {
      all_tokens<S, kCodec, kRowsOfMany>(w, x, i, y, ldy);
    }
  }
  for (; i < end; ++i) {
    all_tokens<S, kCodec, 1>(w, x, i, y, ldy);
  }
}

template <class S, Codec kCodec>
void matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
            size_t row_end, float* /*scratch*/) {
  product<S, kCodec>(dense_rows(w), x, y, ldy, row_begin, row_end);
}

template <class S, Codec kCodec>
void matmul_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy, size_t begin, size_t end,
                 float* /*scratch*/) {
  product<S, kCodec>(GatheredRows{w.rows, w.ids}, x, y, ldy, begin, end);
}

/// What `pick` gives for the codec, nullptr for one that has no vectorised product.
template <class Fn, class Pick>
Fn product_of(Codec codec, const Pick& pick) {
  switch (codec) {
    case Codec::F32:
      return pick.template operator()<Codec::F32>();
    case Codec::F16:
      return pick.template operator()<Codec::F16>();
    case Codec::I8Row:
      return pick.template operator()<Codec::I8Row>();
    case Codec::SignRow:
      return pick.template operator()<Codec::SignRow>();
    case Codec::Mm8:
      break;
  }
  return nullptr;
}

template <class S>
MatmulFn matmul_of(Codec codec) {
  return product_of<MatmulFn>(codec, []<Codec kCodec>() -> MatmulFn { return matmul<S, kCodec>; });
}

template <class S>
MatmulRowsFn matmul_rows_of(Codec codec) {
  return product_of<MatmulRowsFn>(
      codec, []<Codec kCodec>() -> MatmulRowsFn { return matmul_rows<S, kCodec>; });
}

}  // namespace
}  // namespace rwkv::edge

// Products with matrices stored row by row, for every table with vector registers. `S` is the
// table's Simd: F, kFloats, kAsks, zero(), load(), fma(), sum(); numbers<Codec>(); for whole inputs
// what whole.h wants. `Stream` is how rows of int8 meet one token: int8_rows.h.
#pragma once

#include "runtime/kernels/loops/int8_rows.h"

namespace rwkv::edge {
namespace {

// Rows and tokens that share registers. One sum per row and token, so that products over one token
// and over many add in the same order. With one token large rows come one after another: side by
// side they would be as many short streams, which memory delivers at half the speed. Rows here and
// there are no stream anyway.
constexpr size_t rows_of_one(Codec codec) {
  return codec == Codec::SignRow ? 4 : 1;
}
// Of rows here and there eight fetch more at once than four.
constexpr size_t scattered_rows(Codec codec) {
  return codec == Codec::F16 ? 8 : 4;
}
constexpr size_t kRowsOfMany = 2;
constexpr size_t kTokensOfMany = 4;
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
    constexpr size_t kBytes = bytes_of<kCodec>(1);
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

// `ahead` of a row lies what will be wanted soon.
template <class S, Codec kCodec, bool kAsks, size_t R, size_t T>
inline void float_products(const Row (&rows)[R], const std::byte* const (&ahead)[R],
                           const Inputs& x, size_t token, float (&products)[R][T]) {
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
  if constexpr (T == 1) {
    constexpr size_t kNumbersPerLine = kCacheLine * 8 / bytes_of<kCodec>(8);
    for (; i + kNumbersPerLine <= n; i += kNumbersPerLine) {
      for (size_t r = 0; kAsks && r < R; ++r) {
        __builtin_prefetch(number_at<kCodec>(ahead[r], i), 0, 2);
      }
#pragma GCC unroll 8
      for (size_t j = 0; j < kNumbersPerLine; j += S::kFloats) {
        tile.add(numbers, from, n, i + j);
      }
    }
    for (size_t r = 0; kAsks && r < R; ++r) {
      __builtin_prefetch(number_at<kCodec>(ahead[r], n) - 1);
    }
  }
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

template <class S, Codec kCodec, size_t R, size_t T>
inline void whole_products(const Row (&rows)[R], const Inputs& x, size_t token,
                           float (&products)[R][T]) {
  constexpr size_t kPart = kProductsPerLane * S::kLanes;
  const size_t ldq = padded_cols(x.cols);
  const int16_t* q = x.q + token * ldq;
  int64_t totals[R][T] = {};
  for (size_t i = 0; i < x.cols; i += kPart) {
    const std::byte* numbers[R];
    for (size_t r = 0; r < R; ++r) {
      numbers[r] = number_at<kCodec>(rows[r].numbers, i);
    }
    const size_t n = x.cols - i < kPart ? x.cols - i : kPart;
    add_whole<S, kCodec, R, T>(numbers, q + i, ldq, n, totals);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      products[r][t] = product_with(rows[r], x, token + t, totals[r][t]);
    }
  }
}

template <class S, Codec kCodec, size_t R, size_t T, class Rows>
inline void tile(const Rows& w, const Inputs& x, size_t i, size_t token, float* y, size_t ldy) {
  Row rows[R];
  const std::byte* ahead[R];
  for (size_t r = 0; r < R; ++r) {
    rows[r] = row_of<kCodec>(w.at(i + r));
    ahead[r] = w.ahead(i + r);
  }
  float products[R][T];
  if constexpr (whole_inputs(kCodec)) {
    whole_products<S, kCodec, R, T>(rows, x, token, products);
  } else {
    float_products<S, kCodec, kAsksFor<S, Rows>, R, T>(rows, ahead, x, token, products);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      y[(token + t) * ldy + w.id(i + r)] = products[r][t];
    }
  }
}

// All rows for T tokens: their inputs stay in the nearest cache while the rows pass by.
template <class S, Codec kCodec, size_t R, size_t T, class Rows>
inline void all_rows(const Rows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                     size_t begin, size_t end) {
  size_t i = begin;
  for (; i + R <= end; i += R) {
    tile<S, kCodec, R, T>(w, x, i, token, y, ldy);
  }
  if constexpr (R == 8) {
    for (; i + R / 2 <= end; i += R / 2) {
      tile<S, kCodec, R / 2, T>(w, x, i, token, y, ldy);
    }
  }
  for (; i < end; ++i) {
    tile<S, kCodec, 1, T>(w, x, i, token, y, ldy);
  }
}

template <class S, class Stream, Codec kCodec, class Rows>
inline void product(const Rows& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                    size_t end) {
  size_t t = 0;
  for (; t + kTokensOfMany <= x.n_tokens; t += kTokensOfMany) {
    all_rows<S, kCodec, kRowsOfMany, kTokensOfMany>(w, x, t, y, ldy, begin, end);
  }
  for (; t < x.n_tokens; ++t) {
    if constexpr (kCodec == Codec::I8Row) {
      rows_of_int8<S, Stream>(w, x, t, y + t * ldy, begin, end);
    } else {
      constexpr size_t kRows = Rows::kScattered ? scattered_rows(kCodec) : rows_of_one(kCodec);
      all_rows<S, kCodec, kRows, 1>(w, x, t, y, ldy, begin, end);
    }
  }
}

template <class S, class Stream, Codec kCodec>
void matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
            size_t row_end, float* /*scratch*/) {
  product<S, Stream, kCodec>(dense_rows(w), x, y, ldy, row_begin, row_end);
}

template <class S, class Stream, Codec kCodec>
void matmul_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy, size_t begin, size_t end,
                 float* /*scratch*/) {
  if (w.lie == RowsLie::InRuns) {
    const GatheredRows<RowsLie::InRuns> rows{w.rows, w.ids, w.n};
    product<S, Stream, kCodec>(rows, x, y, ldy, begin, end);
    return;
  }
  const GatheredRows<RowsLie::HereAndThere> rows{w.rows, w.ids, w.n};
  product<S, Stream, kCodec>(rows, x, y, ldy, begin, end);
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

template <class S, class Stream = PairStream<S>>
MatmulFn matmul_of(Codec codec) {
  return product_of<MatmulFn>(codec,
                              []<Codec kCodec>() -> MatmulFn { return matmul<S, Stream, kCodec>; });
}

template <class S, class Stream = PairStream<S>>
MatmulRowsFn matmul_rows_of(Codec codec) {
  return product_of<MatmulRowsFn>(
      codec, []<Codec kCodec>() -> MatmulRowsFn { return matmul_rows<S, Stream, kCodec>; });
}

}  // namespace
}  // namespace rwkv::edge

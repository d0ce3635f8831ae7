// Products with matrices stored row by row, for every table with vector registers. `S` is the
// table's Simd: F, kFloats, zero(), load(), fma(), sum(); numbers<Codec>(); for whole inputs Acc,
// kWhole, kLanes, no_products(), whole<Codec>(), load_whole(), dot(), join(), total().
#pragma once

#include "runtime/kernels/shared/rows.h"

namespace rwkv::edge {
namespace {

// Rows and tokens that share registers. One sum per row and token, so that products over one token
// and over many add in the same order. With one token large rows come one after another: side by
// side they would be as many short streams, which memory delivers at half the speed.
constexpr size_t rows_of_one(Codec codec) {
  return codec == Codec::SignRow ? 4 : 1;
}
constexpr size_t kCacheLine = 64;
constexpr size_t kRowsOfMany = 2;
constexpr size_t kTokensOfMany = 4;
// Numbers of a row whose whole products fit a 32-bit lane: 512 of at most 128 * kMostInput.
constexpr size_t kProductsPerLane = 512;

// Bytes of `n` numbers of a row; of one-bit rows a multiple of 8.
template <Codec kCodec>
constexpr size_t bytes_of(size_t n) {
  return kCodec == Codec::F32       ? n * 4
         : kCodec == Codec::F16     ? n * 2
         : kCodec == Codec::SignRow ? n / 8
                                    : n;
}

// Where number `i` of a row lies.
template <Codec kCodec>
inline const std::byte* number_at(const std::byte* numbers, size_t i) {
  return numbers + bytes_of<kCodec>(i);
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
template <class S, Codec kCodec, size_t R, size_t T>
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
      for (size_t r = 0; r < R; ++r) {
        __builtin_prefetch(number_at<kCodec>(ahead[r], i));
      }
#pragma GCC unroll 8
      for (size_t j = 0; j < kNumbersPerLine; j += S::kFloats) {
        tile.add(numbers, from, n, i + j);
      }
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

// totals += whole products of the first `n` numbers of rows, where n fits the lanes. Not inlined:
// what surrounds it would take the registers that its sums want.
template <class S, Codec kCodec, size_t R, size_t T>
[[gnu::noinline]] void add_whole(const std::byte* const (&rows)[R], const int16_t* q, size_t ldq,
                                 size_t n, int64_t (&totals)[R][T]) {
  typename S::Acc sums[R][T];
  const std::byte* w[R];
#pragma GCC unroll 8
  for (size_t r = 0; r < R; ++r) {
    w[r] = rows[r];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      sums[r][t] = S::no_products();
    }
  }
  const auto step = [&sums](const std::byte* const(&at)[R], const int16_t* x, size_t ldx)
      __attribute__((always_inline)) {
    typename S::Whole xs[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      xs[t] = S::load_whole(x + t * ldx);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const auto numbers = S::template whole<kCodec>(at[r]);
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        sums[r][t] = S::dot(sums[r][t], numbers, xs[t]);
      }
    }
  };
  size_t i = 0;
  for (; i + S::kWhole <= n; i += S::kWhole) {
    step(w, q + i, ldq);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      w[r] += bytes_of<kCodec>(S::kWhole);
    }
  }
  if (i < n) {
    // What lies behind a row is not ours to read.
    std::byte rest[R][S::kWhole] = {};
    const std::byte* at[R];
    const size_t n_bytes = kCodec == Codec::SignRow ? (n - i + 7) / 8 : n - i;
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(rest[r], w[r], n_bytes);
      at[r] = rest[r];
    }
    step(at, q + i, ldq);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      totals[r][t] += S::template total<kCodec>(sums[r][t]);
    }
  }
}

// The same for one row and token, in a stream: what lies `ahead` of its numbers is asked for while
// they are used.
template <class S, Codec kCodec>
inline int64_t stream_whole(const std::byte* row, const std::byte* ahead, const int16_t* q,
                            size_t n) {
  constexpr size_t kSums = 4;
  constexpr size_t kStep = kSums * S::kWhole;
  typename S::Acc sums[kSums];
#pragma GCC unroll 8
  for (size_t s = 0; s < kSums; ++s) {
    sums[s] = S::no_products();
  }
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (size_t line = 0; line < bytes_of<kCodec>(kStep); line += kCacheLine) {
      __builtin_prefetch(number_at<kCodec>(ahead, i) + line);
    }
#pragma GCC unroll 8
    for (size_t s = 0; s < kSums; ++s) {
      const size_t at = i + s * S::kWhole;
      sums[s] = S::dot(sums[s], S::template whole<kCodec>(number_at<kCodec>(row, at)),
                       S::load_whole(q + at));
    }
  }
  const auto all = S::join(S::join(sums[0], sums[1]), S::join(sums[2], sums[3]));
  int64_t totals[1][1] = {{S::template total<kCodec>(all)}};
  if (i < n) {
    const std::byte* const rest[] = {number_at<kCodec>(row, i)};
    add_whole<S, kCodec, 1, 1>(rest, q + i, 0, n - i, totals);
  }
  return totals[0][0];
}

// Rows [begin, end) times one token, row by row.
template <class S, Codec kCodec, class Rows>
[[gnu::noinline]] void stream_rows(const Rows& w, const Inputs& x, size_t token, float* y,
                                   size_t begin, size_t end) {
  constexpr size_t kPart = kProductsPerLane * S::kLanes;
  const int16_t* const q = x.q + token * padded_cols(x.cols);
  for (size_t i = begin; i < end; ++i) {
    const Row row = row_of<kCodec>(w.at(i));
    const std::byte* const ahead = w.ahead(i) + (row.numbers - w.at(i));
    int64_t total = 0;
    for (size_t c = 0; c < x.cols; c += kPart) {
      total +=
          stream_whole<S, kCodec>(number_at<kCodec>(row.numbers, c), number_at<kCodec>(ahead, c),
                                  q + c, x.cols - c < kPart ? x.cols - c : kPart);
    }
    y[w.id(i)] = product_with(row, x, token, total);
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
    float_products<S, kCodec, R, T>(rows, ahead, x, token, products);
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
  for (; i < end; ++i) {
    tile<S, kCodec, 1, T>(w, x, i, token, y, ldy);
  }
}

template <class S, Codec kCodec, class Rows>
inline void product(const Rows& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                    size_t end) {
  size_t t = 0;
  for (; t + kTokensOfMany <= x.n_tokens; t += kTokensOfMany) {
    all_rows<S, kCodec, kRowsOfMany, kTokensOfMany>(w, x, t, y, ldy, begin, end);
  }
  for (; t < x.n_tokens; ++t) {
    if constexpr (kCodec == Codec::I8Row) {
      stream_rows<S, kCodec>(w, x, t, y + t * ldy, begin, end);
    } else {
      all_rows<S, kCodec, rows_of_one(kCodec), 1>(w, x, t, y, ldy, begin, end);
    }
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
  product<S, kCodec>(GatheredRows{w.rows, w.ids, w.n}, x, y, ldy, begin, end);
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

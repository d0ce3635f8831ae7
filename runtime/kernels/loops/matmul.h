// Products with matrices stored row by row, for every set with vector registers. `S` is the set's
// Simd: F, kFloats, kPrefetches, zero(), load(), fma(), sum(); floats<Element>(); for integers see
// int_products.h. `Stream` multiplies rows of int8 by one token: int8_rows.h.
#pragma once

#include "runtime/kernels/loops/int8_rows.h"
#include "runtime/kernels/loops/unpacked.h"

namespace rwkv::edge {
namespace {

// Rows and tokens that share registers. One sum per row and token, so that products over one token
// and over many add in the same order.
constexpr size_t kRowsOfMany = 2;
constexpr size_t kTokensOfMany = 4;

// Bytes `ahead` of a row will be used soon.
template <class S, Element kElement, bool kPrefetches, size_t R, size_t T>
inline void float_products(const Row (&rows)[R], const std::byte* const (&ahead)[R],
                           const Inputs& x, size_t token, float (&products)[R][T]) {
  const size_t n = x.cols;
  const float* from = x.x + token * n;
  const std::byte* codes[R];
  FloatTile<S, kElement, R, T> tile;
  for (size_t r = 0; r < R; ++r) {
    codes[r] = rows[r].codes;
  }
  tile.clear();
  size_t i = 0;
  if constexpr (T == 1) {
    constexpr size_t kPerLine = kCacheLine * 8 / bytes_of(kElement, 8);
    for (; i + kPerLine <= n; i += kPerLine) {
      for (size_t r = 0; kPrefetches && r < R; ++r) {
        __builtin_prefetch(ahead[r] + bytes_of(kElement, i), 0, 2);
      }
#pragma GCC unroll 8
      for (size_t j = 0; j < kPerLine; j += S::kFloats) {
        tile.add(codes, from, n, i + j);
      }
    }
    for (size_t r = 0; kPrefetches && r < R; ++r) {
      __builtin_prefetch(ahead[r] + bytes_of(kElement, n) - 1);
    }
  }
  for (; i + S::kFloats <= n; i += S::kFloats) {
    tile.add(codes, from, n, i);
  }
  if (i < n) {
    tile.add_rest(codes, from, n, i, n - i);
  }
  tile.finish(products);
}

template <class S, Element kElement, size_t R, size_t T>
inline void int_products(const Row (&rows)[R], const Inputs& x, size_t token,
                         float (&products)[R][T]) {
  constexpr size_t kPart = kProductsPerLane * S::kLanes;
  const size_t ldq = padded_cols(x.cols);
  const int16_t* q = x.q + token * ldq;
  int64_t totals[R][T] = {};
  for (size_t i = 0; i < x.cols; i += kPart) {
    const std::byte* codes[R];
    for (size_t r = 0; r < R; ++r) {
      codes[r] = rows[r].codes + bytes_of(kElement, i);
    }
    const size_t n = x.cols - i < kPart ? x.cols - i : kPart;
    add_int_products<S, kElement, R, T>(codes, q + i, ldq, n, totals);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      products[r][t] = product_with(rows[r].affine, x, token + t, totals[r][t]);
    }
  }
}

template <class S, class Format, size_t R, size_t T, class Rows>
inline void tile(const Rows& w, const Inputs& x, size_t i, size_t token, float* y, size_t ldy) {
  Row rows[R];
  const std::byte* ahead[R];
  for (size_t r = 0; r < R; ++r) {
    rows[r] = row_of<Format>(w.place(i + r));
    ahead[r] = w.ahead(i + r);
  }
  float products[R][T];
  if constexpr (Format::kInputs == InputForm::Floats) {
    float_products<S, Format::kElement, kPrefetchesFor<S, Rows>, R, T>(rows, ahead, x, token,
                                                                       products);
  } else {
    int_products<S, Format::kElement, R, T>(rows, x, token, products);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      y[(token + t) * ldy + w.id(i + r)] = products[r][t];
    }
  }
}

// All rows for T tokens, whose inputs stay in the nearest cache meanwhile. With eight rows side by
// side, the rest may be four.
template <class S, class Format, size_t R, size_t T, class Rows>
inline void all_rows(const Rows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                     size_t begin, size_t end) {
  size_t i = begin;
  for (; i + R <= end; i += R) {
    tile<S, Format, R, T>(w, x, i, token, y, ldy);
  }
  if constexpr (R == 8) {
    for (; i + R / 2 <= end; i += R / 2) {
      tile<S, Format, R / 2, T>(w, x, i, token, y, ldy);
    }
  }
  for (; i < end; ++i) {
    tile<S, Format, 1, T>(w, x, i, token, y, ldy);
  }
}

template <class S, class Stream, class Format, class Rows>
inline void product(const Rows& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                    size_t end) {
  if constexpr (!kIsDirect<Format>) {
    unpacked_product<S, Format>(w, x, y, ldy, begin, end);
  } else {
    size_t t = 0;
    for (; t + kTokensOfMany <= x.n_tokens; t += kTokensOfMany) {
      all_rows<S, Format, kRowsOfMany, kTokensOfMany>(w, x, t, y, ldy, begin, end);
    }
    for (; t < x.n_tokens; ++t) {
      if constexpr (Format::kElement == Element::I8) {
        rows_of_int8<S, Stream, Format>(w, x, t, y + t * ldy, begin, end);
      } else {
        constexpr size_t kRows = Rows::kScattered ? Format::kScatteredRows : Format::kDenseRows;
        all_rows<S, Format, kRows, 1>(w, x, t, y, ldy, begin, end);
      }
    }
  }
}

template <class S, class Stream, Codec C>
void matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
            size_t row_end) {
  using Format = RowFormat<C>;
  product<S, Stream, Format>(dense_rows<Format::kUnitRows>(w), x, y, ldy, row_begin, row_end);
}

template <class S, class Stream, Codec C>
void matmul_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                 size_t end) {
  using Format = RowFormat<C>;
  if (w.order == RowOrder::Contiguous && kIsDirect<Format>) {
    product<S, Stream, Format>(GatheredRows<RowOrder::Contiguous>{w}, x, y, ldy, begin, end);
    return;
  }
  product<S, Stream, Format>(GatheredRows<RowOrder::Scattered>{w}, x, y, ldy, begin, end);
}

}  // namespace
}  // namespace rwkv::edge

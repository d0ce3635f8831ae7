// Products with one-bit rows for the x86 tables: bits are used where they lie, eight planes of them
// to 32 bytes of a row. `Sums` of a table has
//   of_set<R, T>(rows, planes, ldp, cols, totals)
// which adds to totals[r * T + t] the sum of token t's input bytes whose bits are set in row r, for
// R rows and T tokens, one of which is 1; `planes` of a token are `ldp` apart. Exact, so the bits
// are those of every table.
#pragma once

#include <immintrin.h>

#include "runtime/kernels/shared/matmul.h"

namespace rwkv::edge {
namespace {

constexpr size_t kPlaneBytes = 32;
constexpr size_t kPlanes = 8;
// Tokens that share a row, or rows that share a token.
constexpr size_t kSignTokens = 4;
constexpr size_t kSignRows = 4;

template <class Sums, size_t R, size_t T>
inline void sign_rows(const DenseRows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                      size_t i) {
  const size_t ldp = byte_planes_size(x.cols);
  Row rows[R];
  for (size_t r = 0; r < R; ++r) {
    const std::byte* start = w.at(i + r);
    const float low = _cvtsh_ss(half_bits(start));
    rows[r] = {start + kSignRowHeader, _cvtsh_ss(half_bits(start + kSignRowHighAt)) - low, low};
    // Much work beside few bytes: asking does no harm in any table.
    for (size_t line = 0; line < w.row_bytes; line += kCacheLine) {
      __builtin_prefetch(w.ahead(i + r) + line);
    }
  }
  int64_t totals[R * T] = {};
  Sums::template of_set<R, T>(rows, x.planes + token * ldp, ldp, x.cols, totals);
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      y[(token + t) * ldy + i + r] =
          product_with(rows[r], x, token + t, kByteInput * totals[r * T + t]);
    }
  }
}

// Rows [begin, end) for T tokens, R rows side by side.
template <class Sums, size_t R, size_t T>
inline void all_sign_rows(const DenseRows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                          size_t begin, size_t end) {
  size_t i = begin;
  for (; i + R <= end; i += R) {
    sign_rows<Sums, R, T>(w, x, token, y, ldy, i);
  }
  for (; i < end; ++i) {
    sign_rows<Sums, 1, T>(w, x, token, y, ldy, i);
  }
}

template <class S, class Sums>
void sign_matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
                 size_t row_end, float* scratch) {
  if (!x.planes) {
    matmul<S, PairStream<S>, Codec::SignRow>(w, x, y, ldy, row_begin, row_end, scratch);
    return;
  }
  const DenseRows rows = dense_rows(w);
  size_t t = 0;
  for (; t + kSignTokens <= x.n_tokens; t += kSignTokens) {
    all_sign_rows<Sums, 1, kSignTokens>(rows, x, t, y, ldy, row_begin, row_end);
  }
  for (; t < x.n_tokens; ++t) {
    all_sign_rows<Sums, kSignRows, 1>(rows, x, t, y, ldy, row_begin, row_end);
  }
}

}  // namespace
}  // namespace rwkv::edge

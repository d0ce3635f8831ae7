// Products with one-bit rows for the x86 sets: bits are used in place, eight planes of inputs for 8
// bytes of a row. `Sums` of a set has kRows, a multiple of four, and
//   of_set<R, T>(rows, planes, ldp, cols, totals)
// which sets totals[r * T + t] to the sum of token t's input bytes whose bits are set in row r, for
// R rows and T tokens, one of which is 1; `planes` of a token are `ldp` apart. Exact, so the bits
// are those of every set. 32 bits hold the sums of 2^20 columns, times 2^7 too.
#pragma once

#include <immintrin.h>

#include "runtime/kernels/loops/matmul.h"
#include "runtime/kernels/rows/sign_row.h"

namespace rwkv::edge {
namespace {

using SignRows = RowFormat<Codec::SignRow>;

// Tokens that share a row; Sums::kRows rows share a token.
constexpr size_t kSignTokens = 4;

// Calls add(bits, planes) for the blocks of columns [begin, end), with the address of 8 bytes of
// each row and the planes to multiply them with. Bytes after the end of a row count as zeros.
template <size_t R, typename Add>
[[gnu::always_inline]] inline void each_block(const Row (&rows)[R], const int8_t* planes,
                                              size_t begin, size_t end, const Add& add) {
  constexpr size_t kBytes = kPlaneBlock / kPlanes;
  const std::byte* at[R];
#pragma GCC unroll 8
  for (size_t r = 0; r < R; ++r) {
    at[r] = rows[r].codes + begin / kPlanes;
  }
  planes += begin;
#pragma GCC unroll 2
  for (size_t n = (end - begin) / kPlaneBlock; n > 0; --n, planes += kPlaneBlock) {
    add(at, planes);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      at[r] += kBytes;
    }
  }
  if (const size_t left = (end - begin) % kPlaneBlock; left > 0) {
    std::byte rest[R][kBytes] = {};
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(rest[r], at[r], (left + kPlanes - 1) / kPlanes);
      at[r] = rest[r];
    }
    add(at, planes);
  }
}

// Four rows times one token: product_with() for each, the same bits.
inline void finish_four(const DenseRows<1>& w, const Inputs& x, size_t token, size_t i,
                        const int32_t* totals, float* y) {
  uint32_t halves[4];
  for (size_t r = 0; r < 4; ++r) {
    std::memcpy(&halves[r], w.at(i + r), sizeof(halves[r]));
  }
  const __m256 pairs = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
  const __m128 two = _mm256_castps256_ps128(pairs);
  const __m128 more = _mm256_extractf128_ps(pairs, 1);
  const __m128 low = _mm_shuffle_ps(two, more, _MM_SHUFFLE(2, 0, 2, 0));
  const __m128 high = _mm_shuffle_ps(two, more, _MM_SHUFFLE(3, 1, 3, 1));
  // A power of two, so that it may be multiplied after the rounding.
  const __m128 products =
      _mm_mul_ps(_mm_cvtepi32_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(totals))),
                 _mm_set1_ps(kByteInput));
  const __m128 scaled =
      _mm_mul_ps(_mm_sub_ps(high, low), _mm_mul_ps(_mm_set1_ps(x.step[token]), products));
  _mm_storeu_ps(y, _mm_add_ps(scaled, _mm_mul_ps(low, _mm_set1_ps(x.sum[token]))));
}

template <class S, class Sums, size_t R, size_t T>
[[gnu::always_inline]] inline void sign_rows(const DenseRows<1>& w, const Inputs& x, size_t token,
                                             float* y, size_t ldy, size_t i) {
  const size_t ldp = byte_planes_size(x.cols);
  for (size_t line = 0; S::kPrefetches && line < R * w.unit_bytes; line += kCacheLine) {
    __builtin_prefetch(w.ahead(i) + line);
  }
  Row rows[R];
  for (size_t r = 0; r < R; ++r) {
    rows[r].codes = w.at(i + r) + SignRows::kHeader;
  }
  int32_t totals[R * T];
  Sums::template of_set<R, T>(rows, x.planes + token * ldp, ldp, x.cols, totals);
  if constexpr (R % 4 == 0 && T == 1) {
    for (size_t r = 0; r < R; r += 4) {
      finish_four(w, x, token, i + r, totals + r, y + token * ldy + i + r);
    }
  } else {
    for (size_t r = 0; r < R; ++r) {
      const Affine affine = SignRows::affine(w.place(i + r), 0);
      for (size_t t = 0; t < T; ++t) {
        y[(token + t) * ldy + i + r] =
            product_with(affine, x, token + t, int64_t{kByteInput} * totals[r * T + t]);
      }
    }
  }
}

// Rows [begin, end) for T tokens, R rows side by side.
template <class S, class Sums, size_t R, size_t T>
[[gnu::noinline]] void all_sign_rows(const DenseRows<1>& w, const Inputs& x, size_t token, float* y,
                                     size_t ldy, size_t begin, size_t end) {
  size_t i = begin;
  for (; i + R <= end; i += R) {
    sign_rows<S, Sums, R, T>(w, x, token, y, ldy, i);
  }
  for (; i < end; ++i) {
    sign_rows<S, Sums, 1, T>(w, x, token, y, ldy, i);
  }
}

template <class S, class Sums>
void sign_matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
                 size_t row_end) {
  if (!x.planes) {
    matmul<S, PairStream<S>, Codec::SignRow>(w, x, y, ldy, row_begin, row_end);
    return;
  }
  const DenseRows<1> rows = dense_rows<1>(w);
  size_t t = 0;
  for (; t + kSignTokens <= x.n_tokens; t += kSignTokens) {
    all_sign_rows<S, Sums, 1, kSignTokens>(rows, x, t, y, ldy, row_begin, row_end);
  }
  for (; t < x.n_tokens; ++t) {
    all_sign_rows<S, Sums, Sums::kRows, 1>(rows, x, t, y, ldy, row_begin, row_end);
  }
}

}  // namespace
}  // namespace rwkv::edge

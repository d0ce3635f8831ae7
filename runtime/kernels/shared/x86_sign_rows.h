// Products with one-bit rows for tables that have AVX2: bits are used where they lie, eight planes
// of them to 32 bytes of a row, so two instructions make 32 factors of 0 or 1 and two more add 32
// products. Exact, so the bits are those of every table.
#pragma once

#include <immintrin.h>

#include "runtime/kernels/shared/matmul.h"

namespace rwkv::edge {
namespace {

constexpr size_t kPlaneBytes = 32;
constexpr size_t kPlanes = 8;
// A lane of 16 bits holds so many blocks of sums: 8 planes of 2 products of at most 128 each.
constexpr size_t kBlocksPerLane = 15;
// Tokens that share a row, or rows that share a token.
constexpr size_t kSignTokens = 4;
constexpr size_t kSignRows = 4;

inline int64_t sum_of_lanes(__m256i sums) {
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 1);
}

// totals += the sums of N registers of 16-bit lanes.
template <size_t N>
inline void add_sums(const __m256i (&lanes)[N], int64_t (&totals)[N]) {
  const __m256i pairs = _mm256_set1_epi16(1);
  __m256i sums[N];
#pragma GCC unroll 8
  for (size_t i = 0; i < N; ++i) {
    sums[i] = _mm256_madd_epi16(lanes[i], pairs);
  }
  if constexpr (N == 4) {
    const __m256i halves =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    int32_t four[N];
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(four),
        _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
    for (size_t i = 0; i < N; ++i) {
      totals[i] += four[i];
    }
  } else {
    for (size_t i = 0; i < N; ++i) {
      totals[i] += sum_of_lanes(sums[i]);
    }
  }
}

// Sums of the inputs' bytes whose bits are set, for R rows and T tokens, one of which is 1;
// `planes` of a token are `ldp` apart.
template <size_t R, size_t T>
[[gnu::noinline]] void sums_of_set(const Row (&rows)[R], const int8_t* planes, size_t ldp,
                                   size_t cols, int64_t (&totals)[R * T]) {
  const __m256i one = _mm256_set1_epi8(1);
  const size_t n_blocks = (cols + kInputPadding - 1) / kInputPadding;
  for (size_t first = 0; first < n_blocks; first += kBlocksPerLane) {
    const size_t end = n_blocks - first < kBlocksPerLane ? n_blocks : first + kBlocksPerLane;
    __m256i sums[R * T];
#pragma GCC unroll 8
    for (size_t i = 0; i < R * T; ++i) {
      sums[i] = _mm256_setzero_si256();
    }
    for (size_t b = first; b < end; ++b) {
      __m256i block[R];
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        std::byte rest[kPlaneBytes] = {};
        const std::byte* from = rows[r].numbers + b * kPlaneBytes;
        if (cols - b * kInputPadding < kInputPadding) {
          std::memcpy(rest, from, (cols - b * kInputPadding + 7) / 8);
          from = rest;
        }
        block[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      }
      const int8_t* x = planes + b * kPlanes * kPlaneBytes;
#pragma GCC unroll 8
      for (size_t k = 0; k < kPlanes; ++k, x += kPlaneBytes) {
#pragma GCC unroll 8
        for (size_t r = 0; r < R; ++r) {
          const __m256i factors =
              _mm256_and_si256(_mm256_srli_epi16(block[r], static_cast<int>(k)), one);
#pragma GCC unroll 8
          for (size_t t = 0; t < T; ++t) {
            const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + t * ldp));
            sums[r * T + t] =
                _mm256_add_epi16(sums[r * T + t], _mm256_maddubs_epi16(factors, bytes));
          }
        }
      }
    }
    add_sums(sums, totals);
  }
}

template <size_t R, size_t T>
inline void sign_rows(const DenseRows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                      size_t i) {
  const size_t ldp = byte_planes_size(x.cols);
  Row rows[R];
  for (size_t r = 0; r < R; ++r) {
    const std::byte* start = w.at(i + r);
    const float low = _cvtsh_ss(half_bits(start));
    rows[r] = {start + kSignRowHeader, _cvtsh_ss(half_bits(start + kSignRowHighAt)) - low, low};
    for (size_t line = 0; line < w.row_bytes; line += kCacheLine) {
      __builtin_prefetch(w.ahead(i + r) + line);
    }
  }
  int64_t totals[R * T] = {};
  sums_of_set<R, T>(rows, x.planes + token * ldp, ldp, x.cols, totals);
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      y[(token + t) * ldy + i + r] =
          product_with(rows[r], x, token + t, kByteInput * totals[r * T + t]);
    }
  }
}

// Rows [begin, end) for T tokens, R rows side by side.
template <size_t R, size_t T>
inline void all_sign_rows(const DenseRows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                          size_t begin, size_t end) {
  size_t i = begin;
  for (; i + R <= end; i += R) {
    sign_rows<R, T>(w, x, token, y, ldy, i);
  }
  for (; i < end; ++i) {
    sign_rows<1, T>(w, x, token, y, ldy, i);
  }
}

template <class S>
void sign_matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
                 size_t row_end, float* scratch) {
  if (!x.planes) {
    matmul<S, Codec::SignRow>(w, x, y, ldy, row_begin, row_end, scratch);
    return;
  }
  const DenseRows rows = dense_rows(w);
  size_t t = 0;
  for (; t + kSignTokens <= x.n_tokens; t += kSignTokens) {
    all_sign_rows<1, kSignTokens>(rows, x, t, y, ldy, row_begin, row_end);
  }
  for (; t < x.n_tokens; ++t) {
    all_sign_rows<kSignRows, 1>(rows, x, t, y, ldy, row_begin, row_end);
  }
}

}  // namespace
}  // namespace rwkv::edge

// Products with one-bit rows for tables that have AVX2: bits are used where they lie, eight planes
// of them to 32 bytes of a row, so two instructions make 32 factors of 0 or 1 and four more add 32
// products of 16 bits. Exact, so the bits are those of every table.
#pragma once

#include <immintrin.h>

#include "runtime/kernels/shared/matmul.h"

namespace rwkv::edge {
namespace {

constexpr size_t kPlaneBytes = 32;
constexpr size_t kPlanes = 8;
// A lane of 16 bits holds so many blocks of sums: 8 planes of 2 products of at most 128 each.
constexpr size_t kBlocksPerLane = 15;
constexpr size_t kSignTokens = 4;

inline int64_t sum_of_lanes(__m256i sums) {
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 1);
}

// Sums of the inputs whose bits are set, for T tokens; `planes` of a token are `ldp` apart.
template <size_t T>
[[gnu::noinline]] void sums_of_set(const std::byte* bits, const int8_t* planes, size_t ldp,
                                   size_t cols, int64_t (&totals)[T]) {
  const __m256i one = _mm256_set1_epi8(1);
  const __m256i pairs = _mm256_set1_epi16(1);
  const size_t n_blocks = (cols + kInputPadding - 1) / kInputPadding;
  for (size_t first = 0; first < n_blocks; first += kBlocksPerLane) {
    const size_t end = n_blocks - first < kBlocksPerLane ? n_blocks : first + kBlocksPerLane;
    __m256i upper[T];
    __m256i lower[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      upper[t] = _mm256_setzero_si256();
      lower[t] = _mm256_setzero_si256();
    }
    for (size_t b = first; b < end; ++b) {
      std::byte rest[kPlaneBytes] = {};
      const std::byte* from = bits + b * kPlaneBytes;
      if (cols - b * kInputPadding < kInputPadding) {
        std::memcpy(rest, from, (cols - b * kInputPadding + 7) / 8);
        from = rest;
      }
      __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      const int8_t* x = planes + b * kPlanes * 2 * kPlaneBytes;
#pragma GCC unroll 8
      for (size_t k = 0; k < kPlanes; ++k, x += 2 * kPlaneBytes) {
        const __m256i factors =
            _mm256_and_si256(_mm256_srli_epi16(block, static_cast<int>(k)), one);
#pragma GCC unroll 8
        for (size_t t = 0; t < T; ++t) {
          const auto* at = reinterpret_cast<const __m256i*>(x + t * ldp);
          upper[t] =
              _mm256_add_epi16(upper[t], _mm256_maddubs_epi16(factors, _mm256_loadu_si256(at)));
          lower[t] =
              _mm256_add_epi16(lower[t], _mm256_maddubs_epi16(factors, _mm256_loadu_si256(at + 1)));
        }
      }
    }
    for (size_t t = 0; t < T; ++t) {
      totals[t] += 256 * sum_of_lanes(_mm256_madd_epi16(upper[t], pairs)) +
                   sum_of_lanes(_mm256_madd_epi16(lower[t], pairs));
    }
  }
}

template <size_t T>
inline void sign_rows(const DenseRows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                      size_t begin, size_t end) {
  const size_t ldp = byte_planes_size(x.cols);
  for (size_t i = begin; i < end; ++i) {
    const Row row = row_of<Codec::SignRow>(w.at(i));
    __builtin_prefetch(w.ahead(i));
    int64_t totals[T] = {};
    sums_of_set<T>(row.numbers, x.planes + token * ldp, ldp, x.cols, totals);
    for (size_t t = 0; t < T; ++t) {
      y[(token + t) * ldy + i] = product_with(row, x, token + t, totals[t]);
    }
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
    sign_rows<kSignTokens>(rows, x, t, y, ldy, row_begin, row_end);
  }
  for (; t < x.n_tokens; ++t) {
    sign_rows<1>(rows, x, t, y, ldy, row_begin, row_end);
  }
}

}  // namespace
}  // namespace rwkv::edge

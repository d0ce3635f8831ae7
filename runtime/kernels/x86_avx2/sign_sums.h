// Sums over one-bit rows with AVX2: two instructions make 32 factors of 0 or 1, two more add 32
// products.
#pragma once

#include <algorithm>

#include "runtime/kernels/shared/x86_sign_rows.h"
#include "runtime/kernels/shared/x86_sums.h"

namespace rwkv::edge {
namespace {

// A lane of 16 bits holds so many blocks of sums: 8 planes of 2 products of at most 128 each.
constexpr size_t kBlocksPerLane = 15;

inline int32_t sum_of_lanes(__m256i sums) {
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 1);
}

// totals += the sums of N registers of 16-bit lanes.
template <size_t N>
inline void add_sums(const __m256i (&lanes)[N], int32_t (&totals)[N]) {
  const __m256i pairs = _mm256_set1_epi16(1);
  __m256i sums[N];
#pragma GCC unroll 8
  for (size_t i = 0; i < N; ++i) {
    sums[i] = _mm256_madd_epi16(lanes[i], pairs);
  }
  if constexpr (N == 4) {
    int32_t four[N];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(four), sums_of_four(sums));
    for (size_t i = 0; i < N; ++i) {
      totals[i] += four[i];
    }
  } else {
    for (size_t i = 0; i < N; ++i) {
      totals[i] += sum_of_lanes(sums[i]);
    }
  }
}

/// Sums of shared/x86_sign_rows.h.
struct SignSums {
  template <size_t R, size_t T>
  [[gnu::noinline]] static void of_set(const Row (&rows)[R], const int8_t* planes, size_t ldp,
                                       size_t cols, int32_t (&totals)[R * T]) {
    const __m256i one = _mm256_set1_epi8(1);
    std::fill(totals, totals + R * T, 0);
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
              const __m256i bytes =
                  _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + t * ldp));
              sums[r * T + t] =
                  _mm256_add_epi16(sums[r * T + t], _mm256_maddubs_epi16(factors, bytes));
            }
          }
        }
      }
      add_sums(sums, totals);
    }
  }
};

}  // namespace
}  // namespace rwkv::edge

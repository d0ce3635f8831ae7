// Sums over one-bit rows with AVX2: two instructions make 32 factors of 0 or 1, two more add 32
// products.
#pragma once

#include <algorithm>

#include "runtime/kernels/loops/x86_sign_rows.h"
#include "runtime/kernels/loops/x86_sums.h"

namespace rwkv::edge {
namespace {

// A lane of 16 bits holds the sums of this many columns: of a block two times 2 products of at most
// 128 each.
constexpr size_t kColsPerLane = 63 * kPlaneBlock;

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

// The sums of R rows and T tokens in lanes of 16 bits, a block of columns at a time.
template <size_t R, size_t T>
struct SignTile {
  __m256i sums[R * T];

  [[gnu::always_inline]] void add(const std::byte* const (&bits)[R], const int8_t* planes,
                                  size_t ldp) {
    add_half(bits, planes, ldp, _mm256_set_epi64x(3, 2, 1, 0));
    add_half(bits, planes + kPlaneBlock / 2, ldp, _mm256_set_epi64x(7, 6, 5, 4));
  }

 private:
  // Of the planes that `places` names.
  [[gnu::always_inline]] void add_half(const std::byte* const (&bits)[R], const int8_t* planes,
                                       size_t ldp, __m256i places) {
    __m256i bytes[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      bytes[t] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(planes + t * ldp));
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const __m256i eight =
          _mm256_broadcastq_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bits[r])));
      const __m256i factors =
          _mm256_and_si256(_mm256_srlv_epi64(eight, places), _mm256_set1_epi8(1));
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        __m256i& sum = sums[r * T + t];
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(factors, bytes[t]));
      }
    }
  }
};

/// Sums of loops/x86_sign_rows.h.
struct SignSums {
  static constexpr size_t kRows = 4;
  template <size_t R, size_t T>
  [[gnu::noinline]] static void of_set(const Row (&rows)[R], const int8_t* planes, size_t ldp,
                                       size_t cols, int32_t (&totals)[R * T]) {
    std::fill(totals, totals + R * T, 0);
    for (size_t c = 0; c < cols; c += kColsPerLane) {
      SignTile<R, T> tile = {};
      each_block(
          rows, planes, c, std::min(cols, c + kColsPerLane),
          [&](const std::byte* const(&at)[R], const int8_t* from)
              __attribute__((always_inline)) { tile.add(at, from, ldp); });
      add_sums(tile.sums, totals);
    }
  }
};

}  // namespace
}  // namespace rwkv::edge

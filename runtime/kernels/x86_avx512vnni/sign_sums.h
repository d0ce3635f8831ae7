// Sums over one-bit rows with VNNI: a factor is 0 or 2^k, the bit of plane k where it lies, so that
// one instruction makes 64 factors and one more adds 64 products. Each pair of planes has its own
// sums, which are divided by 2^k in the end, without rest.
#pragma once

#include "runtime/kernels/shared/x86_sign_rows.h"

namespace rwkv::edge {
namespace {

constexpr size_t kPairs = kPlanes / 2;

// 2^k of plane k = 2 * pair in the lower half, of the next plane in the upper one.
inline __m512i factors_of(size_t pair) {
  const auto low = static_cast<char>(1 << (2 * pair));
  const auto high = static_cast<char>(2 << (2 * pair));
  return _mm512_inserti64x4(_mm512_set1_epi8(low), _mm256_set1_epi8(high), 1);
}

// The sums of all planes, in eight lanes.
[[gnu::always_inline]] inline __m256i sum_of_planes(const __m512i (&sums)[kPairs]) {
  __m512i all = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (size_t pair = 0; pair < kPairs; ++pair) {
    const auto k = static_cast<int>(2 * pair);
    const __m512i bits = _mm512_inserti64x4(_mm512_set1_epi32(k), _mm256_set1_epi32(k + 1), 1);
    all = _mm512_add_epi32(all, _mm512_srav_epi32(sums[pair], bits));
  }
  return _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
}

inline __m128i sum_of_halves(__m256i sums) {
  return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

// totals += the lanes of each of N registers; a few of them together cost little more than one.
template <size_t N>
[[gnu::always_inline]] inline void add_lanes(const __m256i (&lanes)[N], int64_t (&totals)[N]) {
  int32_t sums[4];
  if constexpr (N == 4) {
    const __m256i halves = _mm256_hadd_epi32(_mm256_hadd_epi32(lanes[0], lanes[1]),
                                             _mm256_hadd_epi32(lanes[2], lanes[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), sum_of_halves(halves));
    for (size_t i = 0; i < N; ++i) {
      totals[i] += sums[i];
    }
  } else {
    for (size_t i = 0; i < N; ++i) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), sum_of_halves(lanes[i]));
      totals[i] += int64_t{sums[0]} + sums[1] + sums[2] + sums[3];
    }
  }
}

// The sums of R rows and T tokens, over a block of columns at a time.
template <size_t R, size_t T>
struct SignTile {
  __m512i sums[R * T][kPairs];

  [[gnu::always_inline]] void add(const std::byte* const (&blocks)[R], const int8_t* planes,
                                  size_t ldp) {
    __m512i bits[R];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      bits[r] =
          _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(blocks[r])));
    }
#pragma GCC unroll 8
    for (size_t pair = 0; pair < kPairs; ++pair) {
      const __m512i factors = factors_of(pair);
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        const __m512i bytes = _mm512_loadu_si512(planes + t * ldp + pair * 2 * kPlaneBytes);
#pragma GCC unroll 8
        for (size_t r = 0; r < R; ++r) {
          __m512i& sum = sums[r * T + t][pair];
          sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(bits[r], factors), bytes);
        }
      }
    }
  }
};

/// Sums of shared/x86_sign_rows.h.
struct SignSums {
  template <size_t R, size_t T>
  [[gnu::noinline]] static void of_set(const Row (&rows)[R], const int8_t* planes, size_t ldp,
                                       size_t cols, int64_t (&totals)[R * T]) {
    constexpr size_t kBlockPlanes = kPlanes * kPlaneBytes;
    SignTile<R, T> tile;
    const std::byte* at[R];
#pragma GCC unroll 8
    for (size_t i = 0; i < R * T; ++i) {
#pragma GCC unroll 8
      for (size_t pair = 0; pair < kPairs; ++pair) {
        tile.sums[i][pair] = _mm512_setzero_si512();
      }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      at[r] = rows[r].numbers;
    }
    for (size_t b = 0; b < cols / kInputPadding; ++b) {
      tile.add(at, planes + b * kBlockPlanes, ldp);
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        at[r] += kPlaneBytes;
      }
    }
    if (cols % kInputPadding > 0) {
      std::byte rest[R][kPlaneBytes] = {};
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        std::memcpy(rest[r], at[r], (cols % kInputPadding + 7) / 8);
        at[r] = rest[r];
      }
      tile.add(at, planes + cols / kInputPadding * kBlockPlanes, ldp);
    }
    __m256i lanes[R * T];
#pragma GCC unroll 8
    for (size_t i = 0; i < R * T; ++i) {
      lanes[i] = sum_of_planes(tile.sums[i]);
    }
    add_lanes(lanes, totals);
  }
};

}  // namespace
}  // namespace rwkv::edge

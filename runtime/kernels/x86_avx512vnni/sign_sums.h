// Sums over one-bit rows with VNNI: a factor is 0 or 2^k, the bit of plane k where it lies, so that
// one instruction makes 64 factors and one more adds 64 products. Each pair of planes has its own
// sums, which are divided by 2^k in the end, without rest.
#pragma once

#include "runtime/kernels/shared/x86_sign_rows.h"
#include "runtime/kernels/shared/x86_sums.h"

namespace rwkv::edge {
namespace {

constexpr size_t kPairs = kPlanes / 2;
// So many have their sums in registers: with all of them a compiler moves them about.
constexpr size_t kPairsTogether = 2;

// 2^k of plane k = 2 * pair in the lower half, of the next plane in the upper one.
inline __m512i factors_of(size_t pair) {
  const auto low = static_cast<char>(1 << (2 * pair));
  const auto high = static_cast<char>(2 << (2 * pair));
  return _mm512_inserti64x4(_mm512_set1_epi8(low), _mm256_set1_epi8(high), 1);
}

// Sums of a pair without their factors.
[[gnu::always_inline]] inline __m512i unscaled(__m512i sums, size_t pair) {
  const auto k = static_cast<int>(2 * pair);
  return _mm512_srav_epi32(sums,
                           _mm512_inserti64x4(_mm512_set1_epi32(k), _mm256_set1_epi32(k + 1), 1));
}

// The sums of R rows and T tokens over kPairsTogether pairs of planes, a block of columns at a
// time.
template <size_t R, size_t T>
struct SignTile {
  __m512i sums[R * T][kPairsTogether];

  [[gnu::always_inline]] void add(const std::byte* const (&blocks)[R], const int8_t* planes,
                                  size_t ldp, const __m512i (&factors)[kPairsTogether]) {
    __m512i bits[R];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      bits[r] =
          _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(blocks[r])));
    }
#pragma GCC unroll 8
    for (size_t pair = 0; pair < kPairsTogether; ++pair) {
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        const __m512i bytes = _mm512_loadu_si512(planes + t * ldp + pair * 2 * kPlaneBytes);
#pragma GCC unroll 8
        for (size_t r = 0; r < R; ++r) {
          __m512i& sum = sums[r * T + t][pair];
          sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(bits[r], factors[pair]), bytes);
        }
      }
    }
  }
};

/// Sums of shared/x86_sign_rows.h.
struct SignSums {
  template <size_t R, size_t T>
  [[gnu::always_inline]] static void of_set(const Row (&rows)[R], const int8_t* planes, size_t ldp,
                                            size_t cols, int32_t (&totals)[R * T]) {
    __m512i sums[R * T] = {};
#pragma GCC unroll 8
    for (size_t pair = 0; pair < kPairs; pair += kPairsTogether) {
      add_pairs<R, T>(rows, planes + pair * 2 * kPlaneBytes, ldp, cols, pair, sums);
    }
    if constexpr (R * T == 4) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(totals), sums_of_four(sums));
    } else {
      for (size_t i = 0; i < R * T; ++i) {
        totals[i] = _mm512_reduce_add_epi32(sums[i]);
      }
    }
  }

 private:
  // Adds to `sums` those of planes from 2 * first_pair on, which `planes` begins with.
  template <size_t R, size_t T>
  [[gnu::always_inline]] static void add_pairs(const Row (&rows)[R], const int8_t* planes,
                                               size_t ldp, size_t cols, size_t first_pair,
                                               __m512i (&sums)[R * T]) {
    SignTile<R, T> tile = {};
    __m512i factors[kPairsTogether];
#pragma GCC unroll 8
    for (size_t pair = 0; pair < kPairsTogether; ++pair) {
      factors[pair] = factors_of(first_pair + pair);
    }
    const std::byte* at[R];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      at[r] = rows[r].numbers;
    }
    for (size_t b = 0; b < cols / kInputPadding; ++b, planes += kPlanes * kPlaneBytes) {
      tile.add(at, planes, ldp, factors);
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
      tile.add(at, planes, ldp, factors);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < R * T; ++i) {
#pragma GCC unroll 8
      for (size_t pair = 0; pair < kPairsTogether; ++pair) {
        sums[i] = _mm512_add_epi32(sums[i], unscaled(tile.sums[i][pair], first_pair + pair));
      }
    }
  }
};

}  // namespace
}  // namespace rwkv::edge

// Sums over one-bit rows with VNNI: a factor is 0 or 2^k, the bit of plane k where it lies, so that
// one instruction makes 64 factors of 8 bytes of a row and one more adds 64 products. A lane of the
// sums belongs to one plane and is divided by its 2^k in the end, without rest.
#pragma once

#include "runtime/kernels/loops/x86_sign_rows.h"
#include "runtime/kernels/loops/x86_sums.h"

namespace rwkv::edge {
namespace {

// The sums of R rows and T tokens, a block of columns at a time.
template <size_t R, size_t T>
struct SignTile {
  __m512i sums[R * T];

  [[gnu::always_inline]] void add(const std::byte* const (&bits)[R], const int8_t* planes,
                                  size_t ldp, __m512i factors) {
    __m512i bytes[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      bytes[t] = _mm512_loadu_si512(planes + t * ldp);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const __m512i set = _mm512_and_epi64(
          factors,
          _mm512_broadcastq_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bits[r]))));
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        __m512i& sum = sums[r * T + t];
        sum = _mm512_dpbusd_epi32(sum, set, bytes[t]);
      }
    }
  }
};

/// Sums of loops/x86_sign_rows.h.
struct SignSums {
  static constexpr size_t kRows = 8;
  template <size_t R, size_t T>
  [[gnu::always_inline]] static void of_set(const Row (&rows)[R], const int8_t* planes, size_t ldp,
                                            size_t cols, int32_t (&totals)[R * T]) {
    const __m512i factors =
        _mm512_set_epi64(static_cast<int64_t>(0x8080808080808080), 0x4040404040404040,
                         0x2020202020202020, 0x1010101010101010, 0x0808080808080808,
                         0x0404040404040404, 0x0202020202020202, 0x0101010101010101);
    const __m512i places = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    SignTile<R, T> tile = {};
    each_block(
        rows, planes, 0, cols,
        [&](const std::byte* const(&at)[R], const int8_t* from)
            __attribute__((always_inline)) { tile.add(at, from, ldp, factors); });
#pragma GCC unroll 8
    for (size_t i = 0; i < R * T; ++i) {
      tile.sums[i] = _mm512_srav_epi32(tile.sums[i], places);
    }
    if constexpr (R * T % 4 == 0) {
#pragma GCC unroll 8
      for (size_t i = 0; i < R * T; i += 4) {
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(totals + i),
            sums_of_four({tile.sums[i], tile.sums[i + 1], tile.sums[i + 2], tile.sums[i + 3]}));
      }
    } else {
      for (size_t i = 0; i < R * T; ++i) {
        totals[i] = _mm512_reduce_add_epi32(tile.sums[i]);
      }
    }
  }
};

}  // namespace
}  // namespace rwkv::edge

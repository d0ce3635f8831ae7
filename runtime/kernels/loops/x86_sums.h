// Sums of lanes for the x86 sets. In an unnamed namespace, as all loops (row_format.h).
#pragma once

#include <immintrin.h>

namespace rwkv::edge {
namespace {

/// The sum of the lanes of each of four registers: together they cost little more than one.
[[gnu::always_inline]] inline __m128i sums_of_four(const __m256i (&lanes)[4]) {
  const __m256i halves = _mm256_hadd_epi32(_mm256_hadd_epi32(lanes[0], lanes[1]),
                                           _mm256_hadd_epi32(lanes[2], lanes[3]));
  return _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

#if defined(__AVX512F__)
[[gnu::always_inline]] inline __m256i in_eight_lanes(__m512i lanes) {
  return _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
}
[[gnu::always_inline]] inline __m128i sums_of_four(const __m512i (&lanes)[4]) {
  return sums_of_four({in_eight_lanes(lanes[0]), in_eight_lanes(lanes[1]), in_eight_lanes(lanes[2]),
                       in_eight_lanes(lanes[3])});
}
#endif

}  // namespace
}  // namespace rwkv::edge

// Registers of AVX2 with FMA and F16C, as the shared loops use them.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/kernels/loops/x86_sums.h"
#include "runtime/kernels/row_format.h"

namespace rwkv::edge::x86_avx2 {

struct Simd {
  using F = __m256;
  static constexpr size_t kFloats = 8;
  /// Decoding at 0.4B was half as fast again with it (Zen 3).
  static constexpr bool kPrefetches = true;

  static F zero() { return _mm256_setzero_ps(); }
  static F all(float x) { return _mm256_set1_ps(x); }
  static F load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, F x) { _mm256_storeu_ps(to, x); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  /// a * b + c, rounded once.
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F largest(F a, F b) { return _mm256_max_ps(a, b); }
  static F magnitude(F x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
  static float sum(F x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  /// kFloats values to nearest, ties to even.
  static void store_rounded(int16_t* to, F x) {
    const __m256i wide = _mm256_cvtps_epi32(x);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(to),
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)));
  }

  /// kFloats elements.
  template <Element kElement>
  static F floats(const std::byte* from) {
    if constexpr (kElement == Element::F32) {
      return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
    } else if constexpr (kElement == Element::F16) {
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    } else {
      static_assert(kElement == Element::I8);
      return _mm256_cvtepi32_ps(
          _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
    }
  }

  // Integers: products of pairs are added into kLanes sums of 32 bits.
  using Acc = __m256i;
  using Ints = __m256i;
  static constexpr size_t kInts = 16;
  static constexpr size_t kLanes = 8;

  static Acc no_products() { return _mm256_setzero_si256(); }
  static Ints load_ints(const int16_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  /// kInts elements; a set bit is -1.
  template <Element kElement>
  static Ints ints(const std::byte* from) {
    if constexpr (kElement == Element::Bit) {
      uint16_t bits;
      std::memcpy(&bits, from, sizeof(bits));
      const __m256i places = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048,
                                               4096, 8192, 16384, static_cast<int16_t>(0x8000));
      const __m256i all = _mm256_set1_epi16(static_cast<int16_t>(bits));
      return _mm256_cmpeq_epi16(_mm256_and_si256(all, places), places);
    } else {
      static_assert(kElement == Element::I8);
      return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
  }
  static Acc dot(Acc sums, Ints w, Ints x) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(w, x));
  }
  /// The sums of both; together they may have as many products as one.
  static Acc join(Acc a, Acc b) { return _mm256_add_epi32(a, b); }
  template <Element kElement>
  static int64_t total(Acc sums) {
    const __m256i wide = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums)),
                                          _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sums, 1)));
    const __m128i two =
        _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    const int64_t total = _mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1);
    return kElement == Element::Bit ? -total : total;
  }
  /// The totals of four, each of at most kProductsPerLane products in all.
  static void four_totals(const Acc (&sums)[4], int64_t* totals) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(totals),
                        _mm256_cvtepi32_epi64(sums_of_four(sums)));
  }
};

}  // namespace rwkv::edge::x86_avx2

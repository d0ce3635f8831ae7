// Registers of AVX-512 (F, BW, DQ, VL) with VNNI, as the shared loops use them.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/kernels/loops/x86_sums.h"
#include "runtime/kernels/row_format.h"

namespace rwkv::edge::x86_avx512vnni {

struct Simd {
  using F = __m512;
  static constexpr size_t kFloats = 16;
  /// Prefetching got half the bandwidth of a plain stream (Zen 4).
  static constexpr bool kPrefetches = false;

  static F zero() { return _mm512_setzero_ps(); }
  static F all(float x) { return _mm512_set1_ps(x); }
  static F load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, F x) { _mm512_storeu_ps(to, x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  /// a * b + c, rounded once.
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F largest(F a, F b) { return _mm512_max_ps(a, b); }
  static F magnitude(F x) { return _mm512_abs_ps(x); }
  static float sum(F x) { return _mm512_reduce_add_ps(x); }
  /// kFloats values to nearest, ties to even.
  static void store_rounded(int16_t* to, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
  }

  /// kFloats elements.
  template <Element kElement>
  static F floats(const std::byte* from) {
    if constexpr (kElement == Element::F32) {
      return _mm512_loadu_ps(from);
    } else if constexpr (kElement == Element::F16) {
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    } else {
      static_assert(kElement == Element::I8);
      return _mm512_cvtepi32_ps(
          _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
    }
  }

  // Integers: products of pairs are added into kLanes sums of 32 bits.
  using Acc = __m512i;
  using Ints = __m512i;
  static constexpr size_t kInts = 32;
  static constexpr size_t kLanes = 16;

  static Acc no_products() { return _mm512_setzero_si512(); }
  static Ints load_ints(const int16_t* from) { return _mm512_loadu_si512(from); }
  /// kInts elements; a set bit is -1.
  template <Element kElement>
  static Ints ints(const std::byte* from) {
    if constexpr (kElement == Element::Bit) {
      uint32_t bits;
      std::memcpy(&bits, from, sizeof(bits));
      return _mm512_movm_epi16(bits);
    } else {
      static_assert(kElement == Element::I8);
      return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
  }
  static Acc dot(Acc sums, Ints w, Ints x) { return _mm512_dpwssd_epi32(sums, w, x); }
  /// The sums of both; together they may have as many products as one.
  static Acc join(Acc a, Acc b) { return _mm512_add_epi32(a, b); }
  template <Element kElement>
  static int64_t total(Acc sums) {
    const __m512i wide =
        _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums)),
                         _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sums, 1)));
    const int64_t total = _mm512_reduce_add_epi64(wide);
    return kElement == Element::Bit ? -total : total;
  }
  /// The totals of four, each of at most kProductsPerLane products in all.
  static void four_totals(const Acc (&sums)[4], int64_t* totals) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(totals),
                        _mm256_cvtepi32_epi64(sums_of_four(sums)));
  }
};

}  // namespace rwkv::edge::x86_avx512vnni

// Registers for lut codecs: AVX-512 with VNNI and VBMI, whose vpermb looks 64 bytes up at once and
// ignores the bits above an index of 6.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "formats/codec/lut_layout.h"

namespace rwkv::edge {
namespace {

struct LutSimd {
  using V = __m512i;
  using I = __m512i;
  using F = __m512;
  using Table = V;  // 32 values in every 32 bytes
  static constexpr size_t kLanes = 16;
  static constexpr size_t kTokens = 4;
  static constexpr size_t kAddedRows = 4;

  /// Values with 64 added; fewer codes than there is room for repeat.
  template <unsigned kBits>
  static Table table(const std::byte* shared) {
    int8_t values[kLutTable];
    for (size_t i = 0; i < kLutTable; ++i) {
      values[i] =
          static_cast<int8_t>(static_cast<int8_t>(shared[i % (size_t{1} << kBits)]) - kLutLow);
    }
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
  }
  static V load(const std::byte* from) { return _mm512_loadu_si512(from); }
  template <unsigned kBits>
  static V lookup(const Table& table, V codes) {
    return _mm512_permutexvar_epi8(codes, table);
  }
  template <unsigned kN>
  static V shr(V x) {
    return _mm512_srli_epi16(x, kN);
  }
  template <unsigned kN>
  static V shl(V x) {
    return _mm512_slli_epi16(x, kN);
  }
  template <unsigned kN>
  static V low_or(V low, V others) {
    constexpr int kFirstChooses = 0xca;  // bit of the mask ? low : others, as a truth table
    return _mm512_ternarylogic_epi32(_mm512_set1_epi8((1 << kN) - 1), low, others, kFirstChooses);
  }

  /// What unsigned values add too much, negative; so sums of products begin.
  static I start(int32_t sum_of_inputs) { return _mm512_set1_epi32(kLutLow * sum_of_inputs); }
  static I dot(I sums, V values, const int8_t* inputs) {
    int32_t quad;
    std::memcpy(&quad, inputs, sizeof(quad));
    return _mm512_dpbusd_epi32(sums, values, _mm512_set1_epi32(quad));
  }
  static I dot8(I sums, const V (&values)[8], const int8_t* inputs) {
    I others = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (size_t i = 0; i < 8; i += 2) {
      sums = dot(sums, values[i], inputs + 4 * i);
      others = dot(others, values[i + 1], inputs + 4 * i + 4);
    }
    return _mm512_add_epi32(sums, others);
  }
  static I line_dot(V values, const int8_t* inputs) {
    const V x = _mm512_loadu_si512(inputs);
    const I none = _mm512_setzero_si512();
    return _mm512_sub_epi32(_mm512_dpbusd_epi32(none, values, x),
                            _mm512_dpbusd_epi32(none, _mm512_set1_epi8(-kLutLow), x));
  }

  static F no_sum() {
    return _mm512_setzero_ps();
  }
  static F scales(const std::byte* from) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static F add_scaled(F sums, I totals, F scales, float step) {
    return _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(totals),
                                             _mm512_mul_ps(scales, _mm512_set1_ps(step))));
  }
  static F add_product(F sums, I totals, float factor) {
    return _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(totals), _mm512_set1_ps(factor)));
  }
  static void store_scaled(float* to, F sums, const std::byte* row_scales) {
    _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_loadu_ps(row_scales), sums));
  }
  static float sum_of_lanes(const F (&sums)[1]) {
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(sums[0]), _mm512_extractf32x8_ps(sums[0], 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  template <unsigned kBits>
  static void columns(const std::byte* from, const Table& table, V (&values)[1]) {
    if constexpr (kBits == 3) {
      const V low = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
      const V shifts = _mm512_set_epi64(6, 6, 4, 4, 2, 2, 0, 0);
      const V pairs = _mm512_and_si512(_mm512_srlv_epi64(low, shifts), _mm512_set1_epi8(3));
      values[0] = lookup<3>(table, with_bits(pairs, from + 16, 4));
    } else {
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      const V codes =
          _mm512_inserti64x4(_mm512_castsi256_si512(both), _mm256_srli_epi16(both, 4), 1);
      if constexpr (kBits == 4) {
        values[0] = lookup<4>(table, codes);
      } else {
        static_assert(kBits == 5);
        const V nibbles = _mm512_and_si512(codes, _mm512_set1_epi8(15));
        values[0] = lookup<5>(table, with_bits(nibbles, from + 32, 16));
      }
    }
  }
  /// `bit` added where one of the 64 bits is set.
  static V with_bits(V codes, const std::byte* from, char bit) {
    uint64_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    return _mm512_mask_add_epi8(codes, bits, codes, _mm512_set1_epi8(bit));
  }
  static void floats(V values, F (&out)[4]) {
    const V centred = _mm512_add_epi8(values, _mm512_set1_epi8(kLutLow));
    out[0] = floats_of(_mm512_castsi512_si128(centred));
    out[1] = floats_of(_mm512_extracti32x4_epi32(centred, 1));
    out[2] = floats_of(_mm512_extracti32x4_epi32(centred, 2));
    out[3] = floats_of(_mm512_extracti32x4_epi32(centred, 3));
  }
  static F floats_of(__m128i values) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(values));
  }
  static F load_floats(const float* from) {
    return _mm512_loadu_ps(from);
  }
  static void store_floats(float* to, F x) {
    _mm512_storeu_ps(to, x);
  }
  static F add_floats(F sums, F values, float factor) {
    return _mm512_add_ps(sums, _mm512_mul_ps(_mm512_set1_ps(factor), values));
  }
};

}  // namespace
}  // namespace rwkv::edge

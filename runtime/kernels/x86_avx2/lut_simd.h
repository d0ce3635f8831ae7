// Registers for lut codecs: AVX2.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "formats/codec/lut_layout.h"

namespace rwkv::edge {
namespace {

struct LutSimd {
  using V = __m256i;
  using I = __m256i;
  using F = __m256;
  struct Table {
    V low;   // 16 values in every 16 bytes; with codes of 6 bits what is added to them
    V high;  // the other 16 of 32
  };
  static constexpr size_t kLanes = 8;
  static constexpr size_t kSums = 8;
  static constexpr size_t kSumsOfMany = 2;

  /// Values with 64 added; fewer codes than there is room for repeat.
  template <unsigned kBits>
  static Table table(const std::byte* shared) {
    if constexpr (kBits == 6) {
      return {_mm256_set1_epi8(kUniformOffset - kLutLow), _mm256_setzero_si256()};
    }
    int8_t values[kLutTable];
    for (size_t i = 0; i < kLutTable; ++i) {
      values[i] =
          static_cast<int8_t>(static_cast<int8_t>(shared[i % (size_t{1} << kBits)]) - kLutLow);
    }
    const auto* const halves = reinterpret_cast<const __m128i*>(values);
    return {_mm256_broadcastsi128_si256(_mm_loadu_si128(halves)),
            _mm256_broadcastsi128_si256(_mm_loadu_si128(halves + 1))};
  }
  /// Loaded once, even if used several times.
  static V load(const std::byte* from) {
    V loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    asm("" : "+x"(loaded));
    return loaded;
  }
  template <unsigned kBits>
  static V lookup(const Table& table, V codes) {
    if constexpr (kBits == 6) {
      return _mm256_add_epi8(table.low, _mm256_and_si256(codes, _mm256_set1_epi8(63)));
    }
    const V indices = _mm256_and_si256(codes, _mm256_set1_epi8(15));
    const V values = _mm256_shuffle_epi8(table.low, indices);
    if constexpr (kBits <= 4) {
      return values;
    } else {
      // Bit 4 becomes the highest, which chooses.
      return _mm256_blendv_epi8(values, _mm256_shuffle_epi8(table.high, indices), shl<3>(codes));
    }
  }
  template <unsigned kN>
  static V shr(V x) {
    return _mm256_srli_epi16(x, kN);
  }
  template <unsigned kN>
  static V shl(V x) {
    return _mm256_slli_epi16(x, kN);
  }
  template <unsigned kN>
  static V low_or(V low, V others) {
    const V mask = _mm256_set1_epi8((1 << kN) - 1);
    return _mm256_or_si256(_mm256_and_si256(mask, low), _mm256_andnot_si256(mask, others));
  }

  /// What unsigned values add too much, negative; so sums of products begin.
  static I start(int32_t sum_of_inputs) { return _mm256_set1_epi32(kLutLow * sum_of_inputs); }
  static I start_half(const int8_t* inputs) {
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_set1_epi8(1), load(reinterpret_cast<const std::byte*>(inputs)));
    const I eight = _mm256_madd_epi16(pairs, _mm256_set1_epi16(kLutLow));
    const I four = _mm256_add_epi32(eight, _mm256_permute4x64_epi64(eight, 0x4e));
    const I two = _mm256_add_epi32(four, _mm256_shuffle_epi32(four, 0x4e));
    return _mm256_add_epi32(two, _mm256_shuffle_epi32(two, 0xb1));
  }
  static I products(I sums, V values, V inputs) {
    // Two products of at most 127 * 127 fit 16 bits.
    return _mm256_add_epi32(
        sums, _mm256_madd_epi16(_mm256_maddubs_epi16(values, inputs), _mm256_set1_epi16(1)));
  }
  static I dot(I sums, V values, const int8_t* inputs) {
    int32_t quad;
    std::memcpy(&quad, inputs, sizeof(quad));
    return products(sums, values, _mm256_set1_epi32(quad));
  }
  static I dot8(I sums, const V (&values)[8], const int8_t* inputs) {
    I others = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (size_t i = 0; i < 8; i += 2) {
      sums = dot(sums, values[i], inputs + 4 * i);
      others = dot(others, values[i + 1], inputs + 4 * i + 4);
    }
    return _mm256_add_epi32(sums, others);
  }
  static I line_dot(V values, const int8_t* inputs) {
    const V x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(inputs));
    const I none = _mm256_setzero_si256();
    return _mm256_sub_epi32(products(none, values, x),
                            products(none, _mm256_set1_epi8(-kLutLow), x));
  }

  static F no_sum() {
    return _mm256_setzero_ps();
  }
  static F scales(const std::byte* from) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
  }
  static F add_scaled(F sums, I totals, F scales, float step) {
    return _mm256_add_ps(sums, _mm256_mul_ps(_mm256_cvtepi32_ps(totals),
                                             _mm256_mul_ps(scales, _mm256_set1_ps(step))));
  }
  static F add_product(F sums, I totals, float factor) {
    return _mm256_add_ps(sums, _mm256_mul_ps(_mm256_cvtepi32_ps(totals), _mm256_set1_ps(factor)));
  }
  static void store_scaled(float* to, F sums, const std::byte* row_scales) {
    _mm256_storeu_ps(
        to, _mm256_mul_ps(_mm256_loadu_ps(reinterpret_cast<const float*>(row_scales)), sums));
  }
  static float sum_of_lanes(const F (&sums)[2]) {
    const __m256 eight = _mm256_add_ps(sums[0], sums[1]);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  template <unsigned kBits>
  static void columns(const std::byte* from, const Table& table, V (&values)[2]) {
    if constexpr (kBits == 2) {
      const V two = pairs(from);
      values[0] = lookup<2>(table, two);
      values[1] = lookup<2>(table, shr<4>(two));
    } else if constexpr (kBits == 3) {
      const V two = pairs(from);
      values[0] = lookup<3>(table, low_or<2>(two, spread<4>(from + 16)));
      values[1] = lookup<3>(table, low_or<2>(shr<4>(two), spread<4>(from + 20)));
    } else {
      const V both = load(from);
      if constexpr (kBits == 4) {
        values[0] = lookup<4>(table, both);
        values[1] = lookup<4>(table, shr<4>(both));
      } else if constexpr (kBits == 6) {
        const V two = pairs(from + 32);
        values[0] = lookup<6>(table, low_or<4>(both, shl<4>(two)));
        values[1] = lookup<6>(table, low_or<4>(shr<4>(both), two));
      } else {
        static_assert(kBits == 5);
        values[0] = lookup<5>(table, low_or<4>(both, spread<16>(from + 32)));
        values[1] = lookup<5>(table, low_or<4>(shr<4>(both), spread<16>(from + 36)));
      }
    }
  }
  /// Two bits of each of 64 columns: those of the first 32 in the low bits of bytes, the others
  /// four bits higher.
  static V pairs(const std::byte* from) {
    return _mm256_srlv_epi64(
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))),
        _mm256_set_epi64x(2, 2, 0, 0));
  }
  /// kBit in byte i where bit i of 32 is set, else 0.
  template <char kBit>
  static V spread(const std::byte* from) {
    int32_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    const V which =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const V bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
    const V bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), which);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit),
                            _mm256_set1_epi8(kBit));
  }

  /// Signed values.
  template <unsigned kBits>
  static Table sum_table(const std::byte* shared) {
    const Table unsigned_values = table<kBits>(shared);
    const V low = _mm256_set1_epi8(kLutLow);
    return {_mm256_add_epi8(unsigned_values.low, low), _mm256_add_epi8(unsigned_values.high, low)};
  }
  template <unsigned kBits>
  static void line(const std::byte* from, const Table& table, F (&out)[kSums]) {
    V values[2];
    columns<kBits>(from, table, values);
#pragma GCC unroll 2
    for (size_t i = 0; i < 2; ++i) {
      const __m128i low = _mm256_castsi256_si128(values[i]);
      const __m128i high = _mm256_extracti128_si256(values[i], 1);
      out[4 * i] = floats_of(low);
      out[4 * i + 1] = floats_of(_mm_srli_si128(low, 8));
      out[4 * i + 2] = floats_of(high);
      out[4 * i + 3] = floats_of(_mm_srli_si128(high, 8));
    }
  }
  template <unsigned kBits, size_t kGroups>
  static void add_line(const std::byte* from, const Table& table, const float* factors,
                       F (&sums)[kSums]) {
    F values[kSums];
    line<kBits>(from, table, values);
#pragma GCC unroll 8
    for (size_t i = 0; i < kSums; ++i) {
      sums[i] = fma(all(factors[i * kGroups / kSums]), values[i], sums[i]);
    }
  }
  static F floats_of(__m128i values) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(values));
  }
  static F all(float x) {
    return _mm256_set1_ps(x);
  }
  static F fma(F a, F b, F c) {
    return _mm256_fmadd_ps(a, b, c);
  }
  static F load_floats(const float* from) {
    return _mm256_loadu_ps(from);
  }
  static void store_floats(float* to, F x) {
    _mm256_storeu_ps(to, x);
  }
};

}  // namespace
}  // namespace rwkv::edge

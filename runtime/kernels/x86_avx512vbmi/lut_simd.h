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
  using Table = V;
  static constexpr size_t kLanes = 16;
  static constexpr size_t kSums = 4;
  static constexpr size_t kSumsOfMany = 4;

  /// Values with 64 added; fewer codes than there is room for repeat.
  template <unsigned kBits>
  static Table table(const std::byte* shared) {
    int8_t values[kLutCols];
    for (size_t i = 0; i < kLutCols; ++i) {
      const auto code = static_cast<int8_t>(i);
      values[i] =
          static_cast<int8_t>((kBits == 6 ? code + kUniformOffset
                                          : static_cast<int8_t>(shared[i % (size_t{1} << kBits)])) -
                              kLutLow);
    }
    return _mm512_loadu_si512(values);
  }
  /// Loaded once, even if used several times: loads in flight bound a stream from memory.
  static V load(const std::byte* from) {
    V loaded = _mm512_loadu_si512(from);
    asm("" : "+v"(loaded));
    return loaded;
  }
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
  static I start_half(const int8_t* inputs) {
    const __m256i pairs = _mm256_maddubs_epi16(
        _mm256_set1_epi8(1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(inputs)));
    const __m256i eight = _mm256_madd_epi16(pairs, _mm256_set1_epi16(kLutLow));
    const __m256i four = _mm256_add_epi32(eight, _mm256_permute4x64_epi64(eight, 0x4e));
    const __m256i two = _mm256_add_epi32(four, _mm256_shuffle_epi32(four, 0x4e));
    return _mm512_broadcastd_epi32(
        _mm256_castsi256_si128(_mm256_add_epi32(two, _mm256_shuffle_epi32(two, 0xb1))));
  }
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
  static F add_products(F sums, I totals, float low, float high) {
    const F factors = _mm512_insertf32x8(_mm512_set1_ps(low), _mm256_set1_ps(high), 1);
    return _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(totals), factors));
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
      const V codes = _mm512_and_si512(pairs(from), _mm512_set1_epi8(3));
      values[0] = lookup<3>(table, with_bits(codes, from + 16, 4));
    } else if constexpr (kBits == 2) {
      values[0] = lookup<2>(table, pairs(from));
    } else {
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      const V codes =
          _mm512_inserti64x4(_mm512_castsi256_si512(both), _mm256_srli_epi16(both, 4), 1);
      if constexpr (kBits == 4) {
        values[0] = lookup<4>(table, codes);
      } else if constexpr (kBits == 6) {
        values[0] = lookup<6>(table, low_or<4>(codes, shl<4>(pairs(from + 32))));
      } else {
        static_assert(kBits == 5);
        const V nibbles = _mm512_and_si512(codes, _mm512_set1_epi8(15));
        values[0] = lookup<5>(table, with_bits(nibbles, from + 32, 16));
      }
    }
  }
  /// Two bits of each of 64 columns, in the low bits of bytes; above them lie others.
  static V pairs(const std::byte* from) {
    return _mm512_srlv_epi64(
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))),
        _mm512_set_epi64(6, 6, 4, 4, 2, 2, 0, 0));
  }
  /// `bit` added where one of the 64 bits is set.
  static V with_bits(V codes, const std::byte* from, char bit) {
    uint64_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    return _mm512_mask_add_epi8(codes, bits, codes, _mm512_set1_epi8(bit));
  }

  /// Of codes of 4 bits 16 floats, otherwise signed bytes as in Table.
  template <unsigned kBits>
  static auto sum_table(const std::byte* shared) {
    const V values = _mm512_add_epi8(table<kBits>(shared), _mm512_set1_epi8(kLutLow));
    if constexpr (kBits == 4) {
      return floats_of(_mm512_castsi512_si128(values));
    } else {
      return values;
    }
  }
  template <unsigned kBits, class SumTable>
  static void line(const std::byte* from, const SumTable& table, F (&out)[kSums]) {
    if constexpr (kBits == 4) {
      // An index is the low four bits of a lane.
      const I first = lanes_of(from);
      const I second = lanes_of(from + 16);
      out[0] = _mm512_permutexvar_ps(first, table);
      out[1] = _mm512_permutexvar_ps(second, table);
      out[2] = _mm512_permutexvar_ps(_mm512_srli_epi32(first, 4), table);
      out[3] = _mm512_permutexvar_ps(_mm512_srli_epi32(second, 4), table);
    } else {
      V values[1];
      columns<kBits>(from, table, values);
      out[0] = floats_of(_mm512_castsi512_si128(values[0]));
      out[1] = floats_of(_mm512_extracti32x4_epi32(values[0], 1));
      out[2] = floats_of(_mm512_extracti32x4_epi32(values[0], 2));
      out[3] = floats_of(_mm512_extracti32x4_epi32(values[0], 3));
    }
  }
  template <unsigned kBits, size_t kGroups, class SumTable>
  static void add_line(const std::byte* from, const SumTable& table, const float* factors,
                       F (&sums)[kSums]) {
    F values[kSums];
    if constexpr (kBits == 4) {
      line<kBits>(from, _mm512_mul_ps(table, all(factors[0])), values);
#pragma GCC unroll 4
      for (size_t i = 0; i < kSums; ++i) {
        sums[i] = _mm512_add_ps(sums[i], values[i]);
      }
    } else {
      line<kBits>(from, table, values);
#pragma GCC unroll 4
      for (size_t i = 0; i < kSums; ++i) {
        sums[i] = fma(all(factors[i * kGroups / kSums]), values[i], sums[i]);
      }
    }
  }
  static I lanes_of(const std::byte* bytes) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  }
  static F floats_of(__m128i values) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(values));
  }
  static F all(float x) {
    return _mm512_set1_ps(x);
  }
  static F fma(F a, F b, F c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  static F load_floats(const float* from) {
    return _mm512_loadu_ps(from);
  }
  static void store_floats(float* to, F x) {
    _mm512_storeu_ps(to, x);
  }
};

}  // namespace
}  // namespace rwkv::edge

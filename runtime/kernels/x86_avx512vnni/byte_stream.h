// Rows of int8 times one token with VNNI. An input of 16 bits is 256 times one signed byte plus
// another, a weight w is the unsigned byte w + 128, and products of bytes are added in fours: for
// 64 weights three loads where pairs of 16 bits take four, and it is loads in flight that bound a
// stream from memory.
#pragma once

#include <immintrin.h>

#include "runtime/kernels/loops/int8_rows.h"
#include "runtime/kernels/loops/x86_sums.h"

namespace rwkv::edge {
namespace {

/// A Stream of loops/int8_rows.h.
class ByteStream {
 public:
  static constexpr size_t kMostCols = 8192;
  static constexpr size_t kMostSideBySide = kMostCols;

  ByteStream(const int16_t* q, size_t cols) : cols_(cols) {
    __m512i sums = _mm512_setzero_si512();
    for (size_t i = 0; i < cols; i += kStep) {
      sums = _mm512_add_epi32(sums, split(q + i, bytes_ + kSpread * i));
      sums = _mm512_add_epi32(sums, split(q + i + kStep / 2, bytes_ + kSpread * i + kStep / 2));
    }
    offset_ = kOffset * int64_t{_mm512_reduce_add_epi32(sums)};
  }

  template <bool kPrefetches>
  int64_t row(const std::byte* codes, const std::byte* ahead) const {
    const Sums sums[4] = {sums_of<kPrefetches>(codes, ahead)};
    int64_t totals[4];
    totals_of(sums, totals);
    return totals[0];
  }

  template <bool kPrefetches>
  void four_in_turn(const std::byte* const (&codes)[4], const std::byte* const (&ahead)[4],
                    int64_t (&totals)[4]) const {
    Sums sums[4];
#pragma GCC unroll 8
    for (size_t r = 0; r < 4; ++r) {
      sums[r] = sums_of<kPrefetches>(codes[r], ahead[r]);
    }
    totals_of(sums, totals);
  }

  template <bool kPrefetches, size_t R>
  void side_by_side(const std::byte* const (&codes)[R], const std::byte* const (&ahead)[R],
                    int64_t (&totals)[R]) const {
    Sums sums[R] = {};
    size_t i = 0;
    for (; i + kStep <= cols_; i += kStep) {
#pragma GCC unroll 8
      for (size_t r = 0; kPrefetches && r < R; ++r) {
        __builtin_prefetch(ahead[r] + i, 0, 2);
      }
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        add(sums[r], _mm512_loadu_si512(codes[r] + i), i);
      }
    }
    if (i < cols_) {
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        add(sums[r], _mm512_maskz_loadu_epi8(left(i), codes[r] + i), i);
      }
    }
    for (size_t r = 0; kPrefetches && r < R; ++r) {
      __builtin_prefetch(ahead[r] + cols_, 0, 2);
    }
#pragma GCC unroll 2
    for (size_t r = 0; r < R; r += 4) {
      totals_of(sums + r, totals + r);
    }
  }

 private:
  static constexpr size_t kStep = 64;
  static constexpr int64_t kOffset = 128;
  // Bytes from one input to the next: twice what they take. Without the gaps a stream of rows of
  // 768 or 1024 is 5 to 7 % slower (Zen 4), though inputs never leave the nearest cache; as if the
  // processor took reading them again and again for a second stream.
  static constexpr size_t kSpread = 4;
  // At kMostCols a row's sums still fit 32 bits: 255 * 128 a product.
  struct Sums {
    __m512i high, low;
  };

  // The bytes of 32 inputs, the lower ones kStep after the higher ones; their sums.
  static __m512i split(const int16_t* q, int8_t* to) {
    const __m512i inputs = _mm512_loadu_si512(q);
    const __m512i high = _mm512_srai_epi16(_mm512_add_epi16(inputs, _mm512_set1_epi16(128)), 8);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi16_epi8(high));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + kStep), _mm512_cvtepi16_epi8(inputs));
    return _mm512_madd_epi16(inputs, _mm512_set1_epi16(1));
  }
  __mmask64 left(size_t i) const {
    return cols_ - i < kStep ? (__mmask64{1} << (cols_ - i)) - 1 : ~__mmask64{0};
  }
  void add(Sums& sums, __m512i weights, size_t i) const {
    const __m512i w = _mm512_xor_si512(weights, _mm512_set1_epi8(static_cast<char>(kOffset)));
    sums.high = _mm512_dpbusd_epi32(sums.high, w, _mm512_load_si512(bytes_ + kSpread * i));
    sums.low = _mm512_dpbusd_epi32(sums.low, w, _mm512_load_si512(bytes_ + kSpread * i + kStep));
  }
  // Two loads of half a line: a stream of them is some per cent faster than of whole lines (Zen 4),
  // which a row's header in front moves across two. One the compiler must not make of them.
  static __m512i in_halves(const std::byte* from) {
    const auto* halves = reinterpret_cast<const __m256i*>(from);
    __m512i both = _mm512_castsi256_si512(_mm256_loadu_si256(halves));
    asm("" : "+v"(both));
    return _mm512_inserti64x4(both, _mm256_loadu_si256(halves + 1), 1);
  }
  template <bool kPrefetches>
  [[gnu::always_inline]] Sums sums_of(const std::byte* codes, const std::byte* ahead) const {
    Sums one = {}, other = {};
    size_t i = 0;
    for (; i + 2 * kStep <= cols_; i += 2 * kStep) {
      if constexpr (kPrefetches) {
        __builtin_prefetch(ahead + i, 0, 2);
        __builtin_prefetch(ahead + i + kStep, 0, 2);
      }
      add(one, in_halves(codes + i), i);
      add(other, in_halves(codes + i + kStep), i + kStep);
    }
    one.high = _mm512_add_epi32(one.high, other.high);
    one.low = _mm512_add_epi32(one.low, other.low);
    if constexpr (kPrefetches) {
      __builtin_prefetch(ahead + i, 0, 2);
      __builtin_prefetch(ahead + cols_, 0, 2);
    }
    for (; i < cols_; i += kStep) {
      add(one, _mm512_maskz_loadu_epi8(left(i), codes + i), i);
    }
    return one;
  }
  [[gnu::always_inline]] void totals_of(const Sums* sums, int64_t* totals) const {
    const __m128i high = sums_of_four({sums[0].high, sums[1].high, sums[2].high, sums[3].high});
    const __m128i low = sums_of_four({sums[0].low, sums[1].low, sums[2].low, sums[3].low});
    const __m256i products = _mm256_add_epi64(_mm256_slli_epi64(_mm256_cvtepi32_epi64(high), 8),
                                              _mm256_cvtepi32_epi64(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(totals),
                        _mm256_sub_epi64(products, _mm256_set1_epi64x(offset_)));
  }

  size_t cols_;
  int64_t offset_;  ///< what the 128 in every weight add to a product
  /// For every 64 inputs their higher bytes, then their lower ones, then as much of nothing.
  alignas(64) int8_t bytes_[kSpread * kMostCols];
};

}  // namespace
}  // namespace rwkv::edge

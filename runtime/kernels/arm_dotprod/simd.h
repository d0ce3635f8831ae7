// NEON with the dot products of ARMv8.2: an input of 16 bits is 256 times one signed byte plus
// another, and products of bytes are added in fours.
#pragma once

#include "runtime/kernels/loops/neon_floats.h"

namespace rwkv::edge::arm_dotprod {
namespace {

struct Simd : NeonFloats {
  struct Acc {
    int32x4_t high, low;
  };
  struct Ints {
    int8x16_t high, low;
  };
  static constexpr size_t kInts = 16;
  static constexpr size_t kLanes = 4;

  static Acc no_products() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static Ints load_ints(const int16_t* from) {
    const int16x8_t first = vld1q_s16(from);
    const int16x8_t second = vld1q_s16(from + 8);
    const int16x8_t half = vdupq_n_s16(128);
    return {vcombine_s8(vshrn_n_s16(vaddq_s16(first, half), 8),
                        vshrn_n_s16(vaddq_s16(second, half), 8)),
            vcombine_s8(vmovn_s16(first), vmovn_s16(second))};
  }
  /// kInts elements; a set bit is -1.
  template <Element kElement>
  static int8x16_t ints(const std::byte* from) {
    static_assert(kElement == Element::I8 || kElement == Element::Bit);
    if constexpr (kElement == Element::Bit) {
      return bytes_of_bits(from);
    } else {
      return vld1q_s8(reinterpret_cast<const int8_t*>(from));
    }
  }
  static Acc dot(const Acc& sums, int8x16_t w, const Ints& x) {
    return {vdotq_s32(sums.high, w, x.high), vdotq_s32(sums.low, w, x.low)};
  }
  /// The sums of both; together they may have as many products as one.
  static Acc join(const Acc& a, const Acc& b) {
    return {vaddq_s32(a.high, b.high), vaddq_s32(a.low, b.low)};
  }
  template <Element kElement>
  static int64_t total(const Acc& sums) {
    const int64_t total = 256 * total_of_lanes(sums.high) + total_of_lanes(sums.low);
    return kElement == Element::Bit ? -total : total;
  }
  /// The totals of four, each of at most kProductsPerLane products in all.
  static void four_totals(const Acc (&sums)[4], int64_t* totals) {
    int32x4_t both[4];
    for (size_t i = 0; i < 4; ++i) {
      both[i] = vaddq_s32(vshlq_n_s32(sums[i].high, 8), sums[i].low);
    }
    const int32x4_t four = vpaddq_s32(vpaddq_s32(both[0], both[1]), vpaddq_s32(both[2], both[3]));
    vst1q_s64(totals, vmovl_s32(vget_low_s32(four)));
    vst1q_s64(totals + 2, vmovl_s32(vget_high_s32(four)));
  }
};

}  // namespace
}  // namespace rwkv::edge::arm_dotprod

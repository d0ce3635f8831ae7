// NEON alone: integers are multiplied as pairs of 16 bits.
#pragma once

#include "runtime/kernels/loops/neon_floats.h"

namespace rwkv::edge::arm_neon {
namespace {

struct Simd : NeonFloats {
  using Acc = int32x4_t;
  using Ints = int16x8x2_t;
  static constexpr size_t kInts = 16;
  static constexpr size_t kLanes = 4;

  static Acc no_products() { return vdupq_n_s32(0); }
  static Ints load_ints(const int16_t* from) { return {{vld1q_s16(from), vld1q_s16(from + 8)}}; }
  /// kInts elements; a set bit is -1.
  template <Element kElement>
  static Ints ints(const std::byte* from) {
    static_assert(kElement == Element::I8 || kElement == Element::Bit);
    const int8x16_t bytes = kElement == Element::Bit
                                ? bytes_of_bits(from)
                                : vld1q_s8(reinterpret_cast<const int8_t*>(from));
    return {{vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes))}};
  }
  static Acc dot(Acc sums, const Ints& w, const Ints& x) {
    for (size_t i = 0; i < 2; ++i) {
      sums = vmlal_s16(sums, vget_low_s16(w.val[i]), vget_low_s16(x.val[i]));
      sums = vmlal_s16(sums, vget_high_s16(w.val[i]), vget_high_s16(x.val[i]));
    }
    return sums;
  }
  /// The sums of both; together they may have as many products as one.
  static Acc join(Acc a, Acc b) { return vaddq_s32(a, b); }
  template <Element kElement>
  static int64_t total(Acc sums) {
    return kElement == Element::Bit ? -total_of_lanes(sums) : total_of_lanes(sums);
  }
  /// The totals of four, each of at most kProductsPerLane products in all.
  static void four_totals(const Acc (&sums)[4], int64_t* totals) {
    const int32x4_t four = vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]));
    vst1q_s64(totals, vmovl_s32(vget_low_s32(four)));
    vst1q_s64(totals + 2, vmovl_s32(vget_high_s32(four)));
  }
};

}  // namespace
}  // namespace rwkv::edge::arm_neon

// The float half of Simd for NEON of 64-bit ARM, which arm_neon and arm_dotprod share.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

struct NeonFloats {
  using F = float32x4_t;
  static constexpr size_t kFloats = 4;
  static constexpr bool kPrefetches = true;

  static F zero() { return vdupq_n_f32(0.0f); }
  static F all(float x) { return vdupq_n_f32(x); }
  static F load(const float* from) { return vld1q_f32(from); }
  static void store(float* to, F x) { vst1q_f32(to, x); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  /// a * b + c, rounded once.
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F largest(F a, F b) { return vmaxq_f32(a, b); }
  static F magnitude(F x) { return vabsq_f32(x); }
  static float sum(F x) {
    const float32x2_t two = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(vpadd_f32(two, two), 0);
  }
  /// kFloats values to nearest, ties to even: adding 1.5 * 2^23 leaves no room for a fraction.
  static void store_rounded(int16_t* to, F x) {
    const F large = vdupq_n_f32(12582912.0f);
    const F rounded = vsubq_f32(vaddq_f32(x, large), large);
    vst1_s16(to, vqmovn_s32(vcvtq_s32_f32(rounded)));
  }

  /// kFloats elements.
  template <Element kElement>
  static F floats(const std::byte* from) {
    if constexpr (kElement == Element::F32) {
      return vreinterpretq_f32_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(from)));
    } else if constexpr (kElement == Element::F16) {
      return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(reinterpret_cast<const uint8_t*>(from))));
    } else {
      static_assert(kElement == Element::I8);
      uint32_t four;
      std::memcpy(&four, from, sizeof(four));
      const int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(four));
      return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
    }
  }
};

/// A byte of -1 for each of 16 bits that is set, else 0.
inline int8x16_t bytes_of_bits(const std::byte* from) {
  static constexpr uint8_t kPlaces[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t bits = vcombine_u8(vdup_n_u8(static_cast<uint8_t>(from[0])),
                                      vdup_n_u8(static_cast<uint8_t>(from[1])));
  return vreinterpretq_s8_u8(vtstq_u8(bits, vld1q_u8(kPlaces)));
}

inline int64_t total_of_lanes(int32x4_t sums) {
  const int64x2_t two = vpaddlq_s32(sums);
  return vgetq_lane_s64(two, 0) + vgetq_lane_s64(two, 1);
}

}  // namespace
}  // namespace rwkv::edge

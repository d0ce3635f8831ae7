// Registers for lut codecs: NEON, and its products of bytes (dotprod) where the file is compiled
// for them. Values are signed here, so nothing is to be taken off sums.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "formats/codec/lut_layout.h"

namespace rwkv::edge {
namespace {

struct LutSimd {
  using V = uint8x16_t;
  using I = int32x4_t;
  using F = float32x4_t;
  using Table = int8x16x2_t;
  static constexpr size_t kLanes = 4;

  /// 32 values; fewer codes repeat. With codes of 6 bits what is added to them.
  template <unsigned kBits>
  static Table table(const std::byte* shared) {
    if constexpr (kBits == 6) {
      return {{vdupq_n_s8(kUniformOffset), vdupq_n_s8(0)}};
    }
    int8_t values[kLutTable];
    for (size_t i = 0; i < kLutTable; ++i) {
      values[i] = static_cast<int8_t>(shared[i % (size_t{1} << kBits)]);
    }
    return {{vld1q_s8(values), vld1q_s8(values + 16)}};
  }
  static V load(const std::byte* from) { return vld1q_u8(reinterpret_cast<const uint8_t*>(from)); }
  template <unsigned kBits>
  static V lookup(const Table& table, V codes) {
    if constexpr (kBits <= 4) {
      return vreinterpretq_u8_s8(vqtbl1q_s8(table.val[0], vandq_u8(codes, vdupq_n_u8(15))));
    } else if constexpr (kBits == 6) {
      return vaddq_u8(vreinterpretq_u8_s8(table.val[0]), vandq_u8(codes, vdupq_n_u8(63)));
    } else {
      return vreinterpretq_u8_s8(vqtbl2q_s8(table, vandq_u8(codes, vdupq_n_u8(31))));
    }
  }
  template <unsigned kN>
  static V shr(V x) {
    return vshrq_n_u8(x, kN);
  }
  template <unsigned kN>
  static V shl(V x) {
    return vshlq_n_u8(x, kN);
  }
  template <unsigned kN>
  static V low_or(V low, V others) {
    return vbslq_u8(vdupq_n_u8((1 << kN) - 1), low, others);
  }

  static I start(int32_t /*sum_of_inputs*/) { return vdupq_n_s32(0); }
  static I start_half(const int8_t* /*inputs*/) { return vdupq_n_s32(0); }
#if defined(__ARM_FEATURE_DOTPROD)
  static I dot8(I sums, const V (&values)[8], const int8_t* inputs) {
    const int8x16_t first = vld1q_s8(inputs);
    const int8x16_t second = vld1q_s8(inputs + 16);
    const auto v = [&values](size_t i) __attribute__((always_inline)) {
      return vreinterpretq_s8_u8(values[i]);
    };
    I others = vdotq_laneq_s32(vdupq_n_s32(0), v(1), first, 1);
    sums = vdotq_laneq_s32(sums, v(0), first, 0);
    sums = vdotq_laneq_s32(sums, v(2), first, 2);
    others = vdotq_laneq_s32(others, v(3), first, 3);
    sums = vdotq_laneq_s32(sums, v(4), second, 0);
    others = vdotq_laneq_s32(others, v(5), second, 1);
    sums = vdotq_laneq_s32(sums, v(6), second, 2);
    others = vdotq_laneq_s32(others, v(7), second, 3);
    return vaddq_s32(sums, others);
  }
  static I line_dot(V values, const int8_t* inputs) {
    return vdotq_s32(vdupq_n_s32(0), vreinterpretq_s8_u8(values), vld1q_s8(inputs));
  }
#else
  // Four products of at most 64 * 127 fit 16 bits.
  static I four_quads(const V* values, const int8_t* inputs) {
    int16x8_t low = vdupq_n_s16(0);
    int16x8_t high = vdupq_n_s16(0);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
      int32_t quad;
      std::memcpy(&quad, inputs + 4 * i, sizeof(quad));
      const int8x8_t twice = vreinterpret_s8_s32(vdup_n_s32(quad));
      const int8x16_t v = vreinterpretq_s8_u8(values[i]);
      low = vmlal_s8(low, vget_low_s8(v), twice);
      high = vmlal_s8(high, vget_high_s8(v), twice);
    }
    return in_quads(low, high);
  }
  static I in_quads(int16x8_t low, int16x8_t high) {
    return vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
  }
  static I dot8(I sums, const V (&values)[8], const int8_t* inputs) {
    return vaddq_s32(sums,
                     vaddq_s32(four_quads(values, inputs), four_quads(values + 4, inputs + 16)));
  }
  static I line_dot(V values, const int8_t* inputs) {
    const int8x16_t v = vreinterpretq_s8_u8(values);
    const int8x16_t x = vld1q_s8(inputs);
    return in_quads(vmull_s8(vget_low_s8(v), vget_low_s8(x)),
                    vmull_s8(vget_high_s8(v), vget_high_s8(x)));
  }
#endif

  static F no_sum() {
    return vdupq_n_f32(0.0f);
  }
  static F scales(const std::byte* from) {
    int32_t four;
    std::memcpy(&four, from, sizeof(four));
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
  }
  static F add_scaled(F sums, I totals, F scales, float step) {
    return vaddq_f32(sums, vmulq_f32(vcvtq_f32_s32(totals), vmulq_n_f32(scales, step)));
  }
  static void store_scaled(float* to, F sums, const std::byte* row_scales) {
    float scales[kLanes];
    std::memcpy(scales, row_scales, sizeof(scales));
    vst1q_f32(to, vmulq_f32(vld1q_f32(scales), sums));
  }

  template <unsigned kBits>
  static void columns(const std::byte* from, const Table& table, V (&values)[4]) {
    const V first = load(from);
    if constexpr (kBits == 6) {
      const V second = load(from + 16);
      const V high = load(from + 32);
      values[0] = lookup<6>(table, low_or<4>(first, shl<4>(high)));
      values[1] = lookup<6>(table, low_or<4>(second, shl<2>(high)));
      values[2] = lookup<6>(table, low_or<4>(shr<4>(first), high));
      values[3] = lookup<6>(table, low_or<4>(shr<4>(second), shr<2>(high)));
    } else if constexpr (kBits == 2) {
      values[0] = lookup<2>(table, first);
      values[1] = lookup<2>(table, shr<2>(first));
      values[2] = lookup<2>(table, shr<4>(first));
      values[3] = lookup<2>(table, shr<6>(first));
    } else if constexpr (kBits == 5) {
      const V second = load(from + 16);
      values[0] = lookup<5>(table, low_or<4>(first, spread<16>(from + 32)));
      values[1] = lookup<5>(table, low_or<4>(second, spread<16>(from + 34)));
      values[2] = lookup<5>(table, low_or<4>(shr<4>(first), spread<16>(from + 36)));
      values[3] = lookup<5>(table, low_or<4>(shr<4>(second), spread<16>(from + 38)));
    } else if constexpr (kBits == 4) {
      const V second = load(from + 16);
      values[0] = lookup<4>(table, first);
      values[1] = lookup<4>(table, second);
      values[2] = lookup<4>(table, shr<4>(first));
      values[3] = lookup<4>(table, shr<4>(second));
    } else {
      static_assert(kBits == 3);
      values[0] = lookup<3>(table, low_or<2>(first, spread<4>(from + 16)));
      values[1] = lookup<3>(table, low_or<2>(shr<2>(first), spread<4>(from + 18)));
      values[2] = lookup<3>(table, low_or<2>(shr<4>(first), spread<4>(from + 20)));
      values[3] = lookup<3>(table, low_or<2>(shr<6>(first), spread<4>(from + 22)));
    }
  }
  /// kBit in byte i where bit i of 16 is set, else 0.
  template <uint8_t kBit>
  static V spread(const std::byte* from) {
    const auto byte = [from](size_t i) { return static_cast<uint8_t>(from[i]); };
    const V bytes = vcombine_u8(vdup_n_u8(byte(0)), vdup_n_u8(byte(1)));
    const V bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    return vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(kBit));
  }
  static F add_product(F sums, I totals, float factor) {
    return vaddq_f32(sums, vmulq_n_f32(vcvtq_f32_s32(totals), factor));
  }
  static float sum_of_lanes(const F (&sums)[4]) {
    const F four = vaddq_f32(vaddq_f32(sums[0], sums[2]), vaddq_f32(sums[1], sums[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }

  static constexpr size_t kSums = 16;
  static constexpr size_t kSumsOfMany = 4;
  template <unsigned kBits>
  static Table sum_table(const std::byte* shared) {
    return table<kBits>(shared);
  }
  template <unsigned kBits>
  static void line(const std::byte* from, const Table& table, F (&out)[kSums]) {
    V values[4];
    columns<kBits>(from, table, values);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
      const int8x16_t v = vreinterpretq_s8_u8(values[i]);
      const int16x8_t low = vmovl_s8(vget_low_s8(v));
      const int16x8_t high = vmovl_s8(vget_high_s8(v));
      out[4 * i] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
      out[4 * i + 1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
      out[4 * i + 2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
      out[4 * i + 3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
    }
  }
  template <unsigned kBits, size_t kGroups>
  static void add_line(const std::byte* from, const Table& table, const float* factors,
                       F (&sums)[kSums]) {
    F values[kSums];
    line<kBits>(from, table, values);
#pragma GCC unroll 16
    for (size_t i = 0; i < kSums; ++i) {
      sums[i] = fma(all(factors[i * kGroups / kSums]), values[i], sums[i]);
    }
  }
  static F all(float x) {
    return vdupq_n_f32(x);
  }
  static F fma(F a, F b, F c) {
    return vfmaq_f32(c, a, b);
  }
  static F load_floats(const float* from) {
    return vld1q_f32(from);
  }
  static void store_floats(float* to, F x) {
    vst1q_f32(to, x);
  }
};

}  // namespace
}  // namespace rwkv::edge

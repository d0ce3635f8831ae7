// The small operations as plain loops, for every table: the compiler makes of them what its
// instructions allow. No multiply-add is fused and sums have a fixed number of lanes, so the bits
// are the same everywhere.
#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/kernels/elementwise.h"

// Before a loop whose steps do not need one another: no vector overlaps another but in place.
#if defined(__clang__)
#define RWKV_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define RWKV_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace rwkv::edge {
namespace {

constexpr size_t kSumLanes = 8;

// e^x = 2^n e^r with |r| <= ln 2 / 2, e^r by the polynomial of Moshier's Cephes (expf). What is
// beyond the limits gives nearly 0 or nearly infinity; NaN stays NaN.
inline float exp_of(float x) {
  constexpr float kLeast = -87.0f;
  constexpr float kMost = 88.0f;
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;  // few digits: n times it is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kToWhole = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
  constexpr uint32_t kMantissaBits = 23;
  constexpr uint32_t kOne = 0x3f800000;
  x = x < kLeast ? kLeast : x;
  x = x > kMost ? kMost : x;
  const float shifted = x * kLog2E + kToWhole;
  const float n = shifted - kToWhole;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e_r = p * (r * r) + r + 1.0f;
  // The low bits of `shifted` are n.
  const uint32_t exponent = (__builtin_bit_cast(uint32_t, shifted) << kMantissaBits) + kOne;
  return e_r * __builtin_bit_cast(float, exponent);
}

inline float sigmoid_of(float x) {
  return 1.0f / (1.0f + exp_of(-x));
}

// 1 - 2 / (e^(2|x|) + 1) with the sign of x; near 0, where that cancels, Cephes' polynomial.
inline float tanh_of(float x) {
  constexpr float kNear = 0.625f;
  const float size = std::fabs(x);
  const float far = 1.0f - 2.0f / (exp_of(size + size) + 1.0f);
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = p * z * x + x;
  return size < kNear ? near : std::copysign(far, x);
}

// sum_i term(i), in lanes.
template <typename Sum, typename Term>
inline Sum sum_of(size_t n, const Term& term) {
  Sum lanes[kSumLanes] = {};
  size_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (size_t lane = 0; lane < kSumLanes; ++lane) {
      lanes[lane] += term(i + lane);
    }
  }
  for (size_t lane = 0; i < n; ++i, ++lane) {
    lanes[lane] += term(i);
  }
  Sum sum = 0;
  for (const Sum lane : lanes) {
    sum += lane;
  }
  return sum;
}

// In double: a float sum over thousands of squares would lose digits that v5's group norm, with
// values near zero, amplifies.
void normalise(const float* x, const float* weight, const float* bias, float* y, size_t n,
               float eps) {
  const auto count = static_cast<double>(n);
  const double mean =
      sum_of<double>(n, [&](size_t i) { return static_cast<double>(x[i]); }) / count;
  const double squares = sum_of<double>(n, [&](size_t i) {
    const double d = static_cast<double>(x[i]) - mean;
    return d * d;
  });
  const auto inverse =
      static_cast<float>(1.0 / std::sqrt(squares / count + static_cast<double>(eps)));
  const auto centre = static_cast<float>(mean);
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    y[i] = (x[i] - centre) * inverse * weight[i] + bias[i];
  }
}

void group_norm(float* x, const float* weight, const float* bias, size_t n, size_t size,
                float eps) {
  for (size_t at = 0; at < n; at += size) {
    normalise(x + at, weight + at, bias + at, x + at, size, eps);
  }
}

void mix_new(const float* x, const float* previous, const float* mix, float* y, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    y[i] = x[i] * mix[i] + previous[i] * (1.0f - mix[i]);
  }
}

void mix_previous(const float* x, const float* previous, const float* mix, float* y, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    y[i] = x[i] + (previous[i] - x[i]) * mix[i];
  }
}

void mix_adapted(const float* x, const float* previous, const float* mix, float* y, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    y[i] = x[i] + (previous[i] - x[i]) * (mix[i] + y[i]);
  }
}

void add(float* x, const float* y, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    x[i] += y[i];
  }
}

void add_constant(float* x, float y, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    x[i] += y;
  }
}

void multiply(float* x, const float* y, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    x[i] *= y[i];
  }
}

void multiply_add(float* y, const float* w, const float* x, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    y[i] += w[i] * x[i];
  }
}

void relu_squared(float* x, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float positive = x[i] > 0.0f ? x[i] : 0.0f;
    x[i] = positive * positive;
  }
}

void mark_above(const float* x, float threshold, uint8_t* marks, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    marks[i] = static_cast<uint8_t>(marks[i] | (x[i] > threshold ? 1 : 0));
  }
}

double sum_of_exp(const float* x, float most, size_t n) {
  return sum_of<double>(n, [&](size_t i) { return static_cast<double>(exp_of(x[i] - most)); });
}

void look_up(const float* values, const uint16_t* which, float keep, float* y, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    const float before = y[i];
    const float found = values[which[i]];
    y[i] = found == keep ? before : found;
  }
}

void tanh_all(float* x, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    x[i] = tanh_of(x[i]);
  }
}

void sigmoid_all(float* x, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    x[i] = sigmoid_of(x[i]);
  }
}

void sigmoid_gate(float* x, const float* gate, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    x[i] *= sigmoid_of(gate[i]);
  }
}

void silu_gate(float* x, const float* gate, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    x[i] *= gate[i] * sigmoid_of(gate[i]);
  }
}

void biased_sigmoid(float* x, const float* bias, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    x[i] = sigmoid_of(bias[i] + x[i]);
  }
}

void decay_v6(float* w, const float* bias, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    w[i] = exp_of(-exp_of(bias[i] + w[i]));
  }
}

void decay_v7(float* w, const float* bias, size_t n) {
  constexpr float kScale = -0.606530659712633f;  // -exp(-0.5)
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    w[i] = exp_of(kScale * sigmoid_of(bias[i] + w[i]));
  }
}

void value_v7(float* v, const float* v_first, const float* gate, const float* bias, size_t n) {
  RWKV_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    v[i] += (v_first[i] - v[i]) * sigmoid_of(bias[i] + gate[i]);
  }
}

void keys_v7(const KeysV7Args& args) {
  constexpr float kNormFloor = 1e-12f;  // torch.nn.functional.normalize's
  for (size_t at = 0; at < args.n; at += args.head_size) {
    float* k = args.k + at;
    float* a = args.a + at;
    float* kk = args.kk + at;
    const float* k_k = args.k_k + at;
    const float* k_a = args.k_a + at;
    const auto squares =
        sum_of<float>(args.head_size, [&](size_t i) { return k[i] * k_k[i] * (k[i] * k_k[i]); });
    const float norm = std::sqrt(squares);
    const float inverse = 1.0f / (norm > kNormFloor ? norm : kNormFloor);
    RWKV_INDEPENDENT
    for (size_t i = 0; i < args.head_size; ++i) {
      kk[i] = k[i] * k_k[i] * inverse;
      k[i] *= 1.0f + (a[i] - 1.0f) * k_a[i];
      a[i] *= kk[i];
    }
  }
}

void bonus_v7(const BonusV7Args& args) {
  for (size_t at = 0; at < args.n; at += args.head_size) {
    const float* r = args.r + at;
    const float* k = args.k + at;
    const float* v = args.v + at;
    const float* r_k = args.r_k + at;
    float* y = args.y + at;
    const auto sum = sum_of<float>(args.head_size, [&](size_t i) { return r[i] * k[i] * r_k[i]; });
    RWKV_INDEPENDENT
    for (size_t i = 0; i < args.head_size; ++i) {
      y[i] += sum * v[i];
    }
  }
}

void wkv_v4(const WkvV4Args& args, size_t begin, size_t end) {
  const float* const decay = args.decay;
  const float* const bonus = args.bonus;
  float* const num = args.num;
  float* const den = args.den;
  float* const max = args.max;
  for (size_t t = 0; t < args.n_tokens; ++t) {
    const float* const k = args.k + t * args.n_channels;
    float* const v = args.v_to_wkv + t * args.n_channels;
    RWKV_INDEPENDENT
    for (size_t i = begin; i < end; ++i) {
      const float here = bonus[i] + k[i];
      const float q = max[i] > here ? max[i] : here;
      const float past_share = exp_of(max[i] - q);
      const float here_share = exp_of(here - q);
      const float wkv =
          (past_share * num[i] + here_share * v[i]) / (past_share * den[i] + here_share);

      const float kept = max[i] + decay[i];
      const float next = kept > k[i] ? kept : k[i];
      const float keep = exp_of(kept - next);
      const float gain = exp_of(k[i] - next);
      num[i] = keep * num[i] + gain * v[i];
      den[i] = keep * den[i] + gain;
      max[i] = next;
      v[i] = wkv;
    }
  }
}

/// The operations as this file's instructions do them.
constexpr Elementwise kElementwise = {
    .normalise = normalise,
    .group_norm = group_norm,
    .mix_new = mix_new,
    .mix_previous = mix_previous,
    .mix_adapted = mix_adapted,
    .add = add,
    .add_constant = add_constant,
    .multiply = multiply,
    .multiply_add = multiply_add,
    .relu_squared = relu_squared,
    .mark_above = mark_above,
    .sum_of_exp = sum_of_exp,
    .look_up = look_up,
    .tanh = tanh_all,
    .sigmoid = sigmoid_all,
    .sigmoid_gate = sigmoid_gate,
    .silu_gate = silu_gate,
    .biased_sigmoid = biased_sigmoid,
    .decay_v6 = decay_v6,
    .decay_v7 = decay_v7,
    .value_v7 = value_v7,
    .keys_v7 = keys_v7,
    .bonus_v7 = bonus_v7,
    .wkv_v4 = wkv_v4,
};

}  // namespace
}  // namespace rwkv::edge

#undef RWKV_INDEPENDENT

// The small operations between the products: norms, token shift, activations, decays. Every one
// works on the channels of one token and gives the same bits in every kernel set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkv::edge {

/// v4's recurrence for channels [begin, end) over all tokens: with q = max(m, u + k),
/// wkv = (e^(m - q) num + e^(u + k - q) v) / (e^(m - q) den + e^(u + k - q)); then the same with
/// max(m + w, k) for the state. num, den and m (the exponent they share) have n_channels floats
/// each, k and v_to_wkv (v, replaced by wkv) as many per token.
struct WkvV4Args {
  const float* k;
  float* v_to_wkv;
  const float* decay;  ///< w
  const float* bonus;  ///< u
  float* num;
  float* den;
  float* max;
  size_t n_tokens;
  size_t n_channels;
};

/// v7's keys of one head or more: kk = normalise(k * k_k) per head, k *= 1 + (a - 1) k_a, and a
/// becomes kk * a.
struct KeysV7Args {
  float* k;
  float* a;
  float* kk;
  const float* k_k;
  const float* k_a;
  size_t head_size;
  size_t n;  ///< a multiple of head_size
};

/// y += (sum_i r_i k_i r_k_i) v per head.
struct BonusV7Args {
  const float* r;
  const float* k;
  const float* v;
  const float* r_k;
  float* y;
  size_t head_size;
  size_t n;
};

/// Functions over `n` channels. exp is within 2 units in the last place, limited to [-87, 88].
struct Elementwise {
  /// y = (x - mean) / sqrt(variance + eps) * weight + bias; y may be x.
  void (*normalise)(const float* x, const float* weight, const float* bias, float* y, size_t n,
                    float eps);
  /// The same over each of `n / size` parts of x, in place: ln_x.
  void (*group_norm)(float* x, const float* weight, const float* bias, size_t n, size_t size,
                     float eps);
  /// y = x * mix + previous * (1 - mix): v4 and v5, where the coefficient weighs the new token.
  void (*mix_new)(const float* x, const float* previous, const float* mix, float* y, size_t n);
  /// y = x + (previous - x) * mix: v6 and v7, where it weighs the previous token.
  void (*mix_previous)(const float* x, const float* previous, const float* mix, float* y, size_t n);
  /// y = x + (previous - x) * (mix + y): v6's mix that depends on the data.
  void (*mix_adapted)(const float* x, const float* previous, const float* mix, float* y, size_t n);
  void (*add)(float* x, const float* y, size_t n);       ///< x += y
  void (*add_constant)(float* x, float y, size_t n);     ///< x += y
  void (*multiply)(float* x, const float* y, size_t n);  ///< x *= y
  /// y += w * x
  void (*multiply_add)(float* y, const float* w, const float* x, size_t n);
  void (*relu_squared)(float* x, size_t n);  ///< x = relu(x)^2
  /// marks |= x > threshold
  void (*mark_above)(const float* x, float threshold, uint8_t* marks, size_t n);
  /// sum_i exp(x_i - most)
  double (*sum_of_exp)(const float* x, float most, size_t n);
  /// y_i = values[which_i], but where that is `keep` y_i stays.
  void (*look_up)(const float* values, const uint16_t* which, float keep, float* y, size_t n);
  void (*tanh)(float* x, size_t n);                               ///< x = tanh(x)
  void (*sigmoid)(float* x, size_t n);                            ///< x = sigmoid(x)
  void (*sigmoid_gate)(float* x, const float* gate, size_t n);    ///< x *= sigmoid(gate)
  void (*silu_gate)(float* x, const float* gate, size_t n);       ///< x *= gate * sigmoid(gate)
  void (*biased_sigmoid)(float* x, const float* bias, size_t n);  ///< x = sigmoid(x + bias)
  /// w = exp(-exp(bias + w)): v6.
  void (*decay_v6)(float* w, const float* bias, size_t n);
  /// w = exp(-exp(-0.5) sigmoid(bias + w)): v7.
  void (*decay_v7)(float* w, const float* bias, size_t n);
  /// v += (v_first - v) * sigmoid(bias + gate): v7.
  void (*value_v7)(float* v, const float* v_first, const float* gate, const float* bias, size_t n);
  void (*keys_v7)(const KeysV7Args& args);
  void (*bonus_v7)(const BonusV7Args& args);
  void (*wkv_v4)(const WkvV4Args& args, size_t begin, size_t end);
};

}  // namespace rwkv::edge

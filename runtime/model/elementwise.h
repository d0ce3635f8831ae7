// The small operations between the products: norms, token shift, mixing, activations. Plain loops
// over [n_tokens][width]; the recurrences and products are in runtime/kernels.
#pragma once

#include <cmath>
#include <cstddef>

namespace rwkv::edge {

inline constexpr float kLayerNormEps = 1e-5f;

/// y = (x - mean) / sqrt(var + eps) * weight + bias over each of `n_tokens` rows of `n`.
/// y may be x.
void layer_norm(const float* x, const float* weight, const float* bias, float* y, size_t n_tokens,
                size_t n);

/// The same over each of `n_groups` equal parts of a row (ln_x). In place.
void group_norm(float* x, const float* weight, const float* bias, size_t n_tokens, size_t n,
                size_t n_groups, float eps);

/// prev[t] = x[t - 1], prev[0] = shift; then shift = the last x.
void token_shift(const float* x, float* shift, float* prev, size_t n_tokens, size_t n);

/// y = x * mix + prev * (1 - mix): v4 and v5, where the coefficient weighs the new token.
void mix_new(const float* x, const float* prev, const float* mix, float* y, size_t n_tokens,
             size_t n);
/// y = x + (prev - x) * mix: v6 and v7, where it weighs the previous token.
void mix_previous(const float* x, const float* prev, const float* mix, float* y, size_t n_tokens,
                  size_t n);

/// x += y over `n` floats.
void add(float* x, const float* y, size_t n);
/// x = relu(x)^2 over `n` floats.
void relu_squared(float* x, size_t n);

inline float sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}
inline float silu(float x) {
  return x * sigmoid(x);
}

}  // namespace rwkv::edge

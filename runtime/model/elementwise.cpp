#include "runtime/model/elementwise.h"

#include <cstring>

namespace rwkv::edge {
namespace {

// Sums in double: a float sum over thousands of squares would lose digits that v5's group norm,
// with values near zero, amplifies.
void normalise(const float* x, const float* weight, const float* bias, float* y, size_t n,
               float eps) {
  double sum = 0.0;
  for (size_t i = 0; i < n; ++i) {
    sum += static_cast<double>(x[i]);
  }
  const double mean = sum / static_cast<double>(n);
  double squares = 0.0;
  for (size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - mean;
    squares += d * d;
  }
  const double variance = squares / static_cast<double>(n);
  const auto inverse = static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(eps)));
  const auto centre = static_cast<float>(mean);
  for (size_t i = 0; i < n; ++i) {
    y[i] = (x[i] - centre) * inverse * weight[i] + bias[i];
  }
}

}  // namespace

void layer_norm(const float* x, const float* weight, const float* bias, float* y, size_t n_tokens,
                size_t n) {
  for (size_t t = 0; t < n_tokens; ++t) {
    normalise(x + t * n, weight, bias, y + t * n, n, kLayerNormEps);
  }
}

void group_norm(float* x, const float* weight, const float* bias, size_t n_tokens, size_t n,
                size_t n_groups, float eps) {
  const size_t size = n / n_groups;
  for (size_t t = 0; t < n_tokens; ++t) {
    for (size_t g = 0; g < n_groups; ++g) {
      float* part = x + t * n + g * size;
      normalise(part, weight + g * size, bias + g * size, part, size, eps);
    }
  }
}

void token_shift(const float* x, float* shift, float* prev, size_t n_tokens, size_t n) {
  std::memcpy(prev, shift, n * sizeof(float));
  std::memcpy(prev + n, x, (n_tokens - 1) * n * sizeof(float));
  std::memcpy(shift, x + (n_tokens - 1) * n, n * sizeof(float));
}

void mix_new(const float* x, const float* prev, const float* mix, float* y, size_t n_tokens,
             size_t n) {
  for (size_t t = 0; t < n_tokens; ++t) {
    for (size_t i = 0; i < n; ++i) {
      y[t * n + i] = x[t * n + i] * mix[i] + prev[t * n + i] * (1.0f - mix[i]);
    }
  }
}

void mix_previous(const float* x, const float* prev, const float* mix, float* y, size_t n_tokens,
                  size_t n) {
  for (size_t t = 0; t < n_tokens; ++t) {
    for (size_t i = 0; i < n; ++i) {
      y[t * n + i] = x[t * n + i] + (prev[t * n + i] - x[t * n + i]) * mix[i];
    }
  }
}

void add(float* x, const float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    x[i] += y[i];
  }
}

void relu_squared(float* x, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float positive = x[i] > 0.0f ? x[i] : 0.0f;
    x[i] = positive * positive;
  }
}

}  // namespace rwkv::edge

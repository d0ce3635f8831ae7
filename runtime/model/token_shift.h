// The token before each token of a chunk.
#pragma once

#include <cstddef>
#include <cstring>

namespace rwkv::edge {

/// Vectors x, [n_tokens][n], and the one before the first of them.
struct TokenShift {
  const float* x;
  float* state;  ///< the last vector of the chunk before
  size_t n;

  const float* at(size_t t) const { return x + t * n; }
  const float* before(size_t t) const { return t == 0 ? state : at(t - 1); }
  /// Makes the last vector the state, when no `before` is needed any more.
  void advance(size_t n_tokens) const { std::memcpy(state, at(n_tokens - 1), n * sizeof(float)); }
};

}  // namespace rwkv::edge

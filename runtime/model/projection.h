// A projection of time_mix or channel_mix: a dense matrix, the factor pair that stands in for it,
// one of the lora pairs of v6 and v7, or half of a predictor of neurons.
#pragma once

#include <string>

#include "runtime/memory/weights.h"
#include "runtime/model/products.h"

namespace rwkv::edge {

/// What happens to the inner vector of a pair.
enum class Activation : uint8_t { Nothing, Relu, ReluSquared, Tanh, Sigmoid };

class Projection {
 public:
  /// `stem` is the name without ".weight": "blocks.3.att.key". Finds the dense matrix, or
  /// stem1/stem2.weight and stem_diag.
  static Result<Projection> load(const Weights& weights, const std::string& stem);
  /// A dense matrix of any kind: y = W x.
  static Projection of(const Matrix& dense);
  /// The pair of two matrices with these names, packed turned: y = B f(A x).
  static Result<Projection> load_lora(const Weights& weights, const std::string& a,
                                      const std::string& b, Activation activation);

  size_t rows() const { return is_pair_ ? factor_b_.rows : dense_.rows; }
  size_t cols() const { return is_pair_ ? factor_a_.cols : dense_.cols; }
  /// Inner size of the pair, 0 if dense.
  size_t rank() const { return is_pair_ ? factor_a_.rows : 0; }

  /// y = P x for every token of the chunk; x [n_tokens][cols()], y [n_tokens][rows()].
  /// Pairs: y = B (A x) or, in the relu_squared form, y = B relu(A x)^2 + diagonal * x
  /// (RWKV-Lite's simple and enhanced SVD).
  /// Fails if storage does.
  Status apply(Pass& pass, const float* x, float* y) const;

  /// Several that do not need one another's results: threads wait for one another once.
  struct Application {
    const Projection* projection;
    const float* x;
    float* y;
  };
  static Status apply_all(Pass& pass, std::span<const Application> applications);

 private:
  void activate(Pass& pass, float* inner) const;
  void add_diagonal(Pass& pass, const float* x, float* y) const;

  Matrix dense_;
  Matrix factor_a_;
  Matrix factor_b_;
  std::span<const float> diagonal_;
  bool is_pair_ = false;
  Activation activation_ = Activation::Nothing;
};

}  // namespace rwkv::edge

#include "runtime/model/projection.h"

#include "runtime/model/elementwise.h"

namespace rwkv::edge {

Result<Projection> Projection::load(const Weights& weights, const std::string& stem) {
  Projection projection;
  if (weights.contains(stem + ".weight")) {
    RWKV_ASSIGN(projection.dense_, weights.matrix(stem + ".weight"));
    return projection;
  }
  projection.is_pair_ = true;
  RWKV_ASSIGN(projection.factor_a_, weights.matrix(stem + "1.weight"));
  RWKV_ASSIGN(projection.factor_b_, weights.matrix(stem + "2.weight"));
  if (weights.contains(stem + "_diag")) {
    RWKV_ASSIGN(projection.diagonal_, weights.vector(stem + "_diag"));
    // The enhanced form always has a diagonal; a pair without one is plain in any model.
    projection.squares_ = weights.config().low_rank == LowRankForm::ReluSquared;
  }
  return projection;
}

void Projection::apply(Run& run, const float* x, float* y) const {
  if (!is_pair_) {
    matmul(run, dense_, x, y);
    return;
  }
  float* middle = run.middle();
  matmul(run, factor_a_, x, middle);
  if (squares_) {
    relu_squared(middle, run.n_tokens * rank());
  }
  matmul(run, factor_b_, middle, y);
  for (size_t t = 0; t < run.n_tokens; ++t) {
    for (size_t i = 0; i < diagonal_.size(); ++i) {
      y[t * rows() + i] += diagonal_[i] * x[t * cols() + i];
    }
  }
}

}  // namespace rwkv::edge

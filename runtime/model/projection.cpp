#include "runtime/model/projection.h"

#include <algorithm>

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
    // The enhanced form always has a diagonal; a pair without one is linear in any model.
    projection.activation_ = weights.config().low_rank == LowRankForm::ReluSquared
                                 ? Activation::ReluSquared
                                 : Activation::Nothing;
  }
  return projection;
}

Projection Projection::of(const Matrix& dense) {
  Projection projection;
  projection.dense_ = dense;
  return projection;
}

Result<Projection> Projection::load_lora(const Weights& weights, const std::string& a,
                                         const std::string& b, Activation activation) {
  Projection projection;
  projection.is_pair_ = true;
  projection.activation_ = activation;
  RWKV_ASSIGN(projection.factor_a_, weights.matrix(a));
  RWKV_ASSIGN(projection.factor_b_, weights.matrix(b));
  return projection;
}

Status Projection::apply(Pass& pass, const float* x, float* y) const {
  const Application application{this, x, y};
  return apply_all(pass, {&application, 1});
}

Status Projection::apply_all(Pass& pass, std::span<const Application> applications) {
  const size_t arena_before = pass.arena.used();
  RWKV_ASSIGN(const std::span<Product> products, pass.products(applications.size()));
  for (size_t i = 0; i < applications.size(); ++i) {
    const auto& [p, x, y] = applications[i];
    products[i] =
        p->is_pair_ ? Product{p->factor_a_, x, pass.take(p->rank())} : Product{p->dense_, x, y};
  }
  RWKV_TRY(pass.arena.status());
  RWKV_TRY(matmul_all(pass, products));
  size_t n_second = 0;
  for (size_t i = 0; i < applications.size(); ++i) {
    const auto& [p, x, y] = applications[i];
    if (p->is_pair_) {
      float* const inner = products[i].y;
      p->activate(pass, inner);
      products[n_second++] = {p->factor_b_, inner, y};
    }
  }
  if (n_second > 0) {
    RWKV_TRY(matmul_all(pass, products.first(n_second)));
    for (const auto& [p, x, y] : applications) {
      p->add_diagonal(pass, x, y);
    }
  }
  pass.arena.rewind(arena_before);
  return {};
}

void Projection::activate(Pass& pass, float* inner) const {
  if (activation_ == Activation::Nothing) {
    return;
  }
  const Elementwise& elementwise = *pass.table.elementwise;
  const size_t n = rank();
  pass.each_token([&](size_t t) {
    switch (activation_) {
      case Activation::Nothing:
        break;
      case Activation::Relu:
        for (float& value : std::span(inner + t * n, n)) {
          value = std::max(value, 0.0f);
        }
        break;
      case Activation::ReluSquared:
        elementwise.relu_squared(inner + t * n, n);
        break;
      case Activation::Tanh:
        elementwise.tanh(inner + t * n, n);
        break;
      case Activation::Sigmoid:
        elementwise.sigmoid(inner + t * n, n);
        break;
    }
  });
}

void Projection::add_diagonal(Pass& pass, const float* x, float* y) const {
  if (diagonal_.empty()) {
    return;
  }
  const size_t n = diagonal_.size();
  pass.each_token([&](size_t t) {
    pass.table.elementwise->multiply_add(y + t * rows(), diagonal_.data(), x + t * cols(), n);
  });
}

}  // namespace rwkv::edge

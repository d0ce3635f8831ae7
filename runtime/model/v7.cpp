// time_mix of v7: the generalised delta rule, S = S diag(w) - (S kk)(kk a)^T + v k^T.
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/model/block.h"
#include "runtime/model/elementwise.h"
#include "runtime/model/projection.h"

namespace rwkv::edge {
namespace {

// The architecture's small pair: y = f(x m1) m2, with f between.
struct LoraPair {
  MatrixView m1, m2;
};

// What is read: the mixes of x; what is computed from them: [n_tokens][dim_att] each.
struct Mixed {
  float *r, *w, *k, *v, *a, *g;
};
struct Outputs {
  float *r, *w, *k, *v, *a, *g;
  float* v_residual;
};

class TimeMixV7 final : public TimeMix {
 public:
  Status load(const Weights& weights, const std::string& prefix, bool is_first);
  void forward(Run& run, const float* x, float* out) const override;
  size_t max_rank() const override {
    return std::max({key_.rank(), value_.rank(), receptance_.rank(), output_.rank()});
  }

 private:
  void project(Run& run, const Mixed& mixed, const Outputs& out) const;
  void mix_values(Run& run, float* v, const float* residual) const;
  void shape_keys(Run& run, float* k, float* a, float* kk) const;
  void add_bonus(const Run& run, const float* r, const float* k, const float* v, float* y) const;

  ModelConfig config_;
  bool is_first_ = false;
  std::span<const float> x_r_, x_w_, x_k_, x_v_, x_a_, x_g_;
  std::span<const float> w0_, a0_, v0_;
  LoraPair decay_, iclr_, value_residual_, gate_;
  std::span<const float> k_k_, k_a_, r_k_;
  std::span<const float> ln_x_weight_, ln_x_bias_;
  Projection key_, value_, receptance_, output_;
};

Status TimeMixV7::load(const Weights& weights, const std::string& prefix, bool is_first) {
  config_ = weights.config();
  is_first_ = is_first;
  const std::string att = prefix + "att.";
  struct VectorName {
    std::span<const float>& to;
    const char* name;
  };
  const VectorName vectors[] = {{x_r_, "x_r"},
                                {x_w_, "x_w"},
                                {x_k_, "x_k"},
                                {x_v_, "x_v"},
                                {x_a_, "x_a"},
                                {x_g_, "x_g"},
                                {w0_, "w0"},
                                {a0_, "a0"},
                                {k_k_, "k_k"},
                                {k_a_, "k_a"},
                                {r_k_, "r_k"},
                                {ln_x_weight_, "ln_x.weight"},
                                {ln_x_bias_, "ln_x.bias"}};
  for (const VectorName& vector : vectors) {
    RWKV_ASSIGN(vector.to, weights.vector(att + vector.name));
  }
  const auto load_pair = [&](LoraPair& pair, const char* letter) -> Status {
    RWKV_ASSIGN(pair.m1, weights.matrix(att + letter + "1"));
    RWKV_ASSIGN(pair.m2, weights.matrix(att + letter + "2"));
    return {};
  };
  RWKV_TRY(load_pair(decay_, "w"));
  RWKV_TRY(load_pair(iclr_, "a"));
  RWKV_TRY(load_pair(gate_, "g"));
  if (!is_first_) {
    RWKV_ASSIGN(v0_, weights.vector(att + "v0"));
    RWKV_TRY(load_pair(value_residual_, "v"));
  }
  RWKV_ASSIGN(key_, Projection::load(weights, att + "key"));
  RWKV_ASSIGN(value_, Projection::load(weights, att + "value"));
  RWKV_ASSIGN(receptance_, Projection::load(weights, att + "receptance"));
  RWKV_ASSIGN(output_, Projection::load(weights, att + "output"));
  return {};
}

// All products of the mixed inputs: the projections, then the small pairs y = f(x m1) m2.
void TimeMixV7::project(Run& run, const Mixed& mixed, const Outputs& out) const {
  const std::array<Projection::Application, 3> projections = {
      {{&receptance_, mixed.r, out.r}, {&key_, mixed.k, out.k}, {&value_, mixed.v, out.v}}};
  Projection::apply_all(run, projections);

  struct Pair {
    const LoraPair* lora;
    const float* x;
    float* y;
    float* inner;
  };
  std::array<Pair, 4> pairs = {{{&decay_, mixed.w, out.w, nullptr},
                                {&iclr_, mixed.a, out.a, nullptr},
                                {&gate_, mixed.g, out.g, nullptr},
                                {&value_residual_, mixed.v, out.v_residual, nullptr}}};
  const size_t n_pairs = is_first_ ? 3 : 4;
  std::array<Product, 4> products;
  for (size_t i = 0; i < n_pairs; ++i) {
    pairs[i].inner = run.take(pairs[i].lora->m1.rows);
    products[i] = {pairs[i].lora->m1, pairs[i].x, pairs[i].inner};
  }
  matmul_all(run, {products.data(), n_pairs});
  for (size_t i = 0; i < run.n_tokens * decay_.m1.rows; ++i) {
    pairs[0].inner[i] = std::tanh(pairs[0].inner[i]);
  }
  for (size_t i = 0; i < run.n_tokens * gate_.m1.rows; ++i) {
    pairs[2].inner[i] = sigmoid(pairs[2].inner[i]);
  }
  for (size_t i = 0; i < n_pairs; ++i) {
    products[i] = {pairs[i].lora->m2, pairs[i].inner, pairs[i].y};
  }
  matmul_all(run, {products.data(), n_pairs});
}

// v += (v_first - v) * sigmoid(v0 + (x_v v1) v2); the first block's v is v_first.
void TimeMixV7::mix_values(Run& run, float* v, const float* residual) const {
  const size_t n = config_.dim_att;
  float* v_first = run.v_first();
  if (is_first_) {
    std::copy(v, v + run.n_tokens * n, v_first);
    return;
  }
  for (size_t t = 0; t < run.n_tokens; ++t) {
    for (size_t i = 0; i < n; ++i) {
      const size_t at = t * n + i;
      v[at] += (v_first[at] - v[at]) * sigmoid(v0_[i] + residual[at]);
    }
  }
}

// kk = normalise(k * k_k) per head; k *= 1 + (a - 1) k_a; a becomes kk * a.
void TimeMixV7::shape_keys(Run& run, float* k, float* a, float* kk) const {
  constexpr float kNormFloor = 1e-12f;  // torch.nn.functional.normalize's
  const size_t n = config_.dim_att;
  const size_t size = config_.head_size;
  for (size_t at = 0; at < run.n_tokens * n; at += size) {
    const size_t channel = at % n;
    float squares = 0.0f;
    for (size_t i = 0; i < size; ++i) {
      kk[at + i] = k[at + i] * k_k_[channel + i];
      squares += kk[at + i] * kk[at + i];
    }
    const float inverse = 1.0f / std::max(std::sqrt(squares), kNormFloor);
    for (size_t i = 0; i < size; ++i) {
      kk[at + i] *= inverse;
      k[at + i] *= 1.0f + (a[at + i] - 1.0f) * k_a_[channel + i];
      a[at + i] *= kk[at + i];
    }
  }
}

// y += (sum_i r_i k_i r_k_i) v per head.
void TimeMixV7::add_bonus(const Run& run, const float* r, const float* k, const float* v,
                          float* y) const {
  const size_t n = config_.dim_att;
  const size_t size = config_.head_size;
  for (size_t at = 0; at < run.n_tokens * n; at += size) {
    const size_t channel = at % n;
    float sum = 0.0f;
    for (size_t i = 0; i < size; ++i) {
      sum += r[at + i] * k[at + i] * r_k_[channel + i];
    }
    for (size_t i = 0; i < size; ++i) {
      y[at + i] += sum * v[at + i];
    }
  }
}

void TimeMixV7::forward(Run& run, const float* x, float* out) const {
  const size_t n_embd = config_.n_embd;
  const size_t dim_att = config_.dim_att;
  const size_t n = config_.head_size;
  const size_t T = run.n_tokens;
  float* prev = run.take(n_embd);
  float* r = run.take(dim_att);
  float* w = run.take(dim_att);
  float* k = run.take(dim_att);
  float* v = run.take(dim_att);
  float* a = run.take(dim_att);
  float* g = run.take(dim_att);
  float* kk = run.take(dim_att);
  float* y = run.take(dim_att);
  const auto mix = [&](std::span<const float> coefficient) {
    float* mixed = run.take(n_embd);
    mix_previous(x, prev, coefficient.data(), mixed, T, n_embd);
    return mixed;
  };
  token_shift(x, run.state.att_shift, prev, T, n_embd);
  const Mixed mixed = {mix(x_r_), mix(x_w_), mix(x_k_), mix(x_v_), mix(x_a_), mix(x_g_)};
  project(run, mixed, {r, w, k, v, a, g, y});
  mix_values(run, v, y);
  // w = exp(-exp(-0.5) sigmoid(w0 + ...)), a = sigmoid(a0 + ...)
  const float decay_scale = -std::exp(-0.5f);
  for (size_t t = 0; t < T; ++t) {
    for (size_t i = 0; i < dim_att; ++i) {
      const size_t at = t * dim_att + i;
      w[at] = std::exp(decay_scale * sigmoid(w0_[i] + w[at]));
      a[at] = sigmoid(a0_[i] + a[at]);
    }
  }
  shape_keys(run, k, a, kk);
  run.pool.run(config_.n_head, 1, [&](size_t begin, size_t end, unsigned) {
    for (size_t h = begin; h < end; ++h) {
      const size_t at = h * n;
      run.table.wkv_v7({{r + at, k + at, v + at, w + at, nullptr, run.state.wkv + at * n, y + at, n,
                         T, dim_att, dim_att},
                        kk + at,
                        a + at});
    }
  });
  group_norm(y, ln_x_weight_.data(), ln_x_bias_.data(), T, dim_att, config_.n_head,
             config_.group_norm_eps);
  add_bonus(run, r, k, v, y);
  for (size_t i = 0; i < T * dim_att; ++i) {
    y[i] *= g[i];
  }
  output_.apply(run, y, out);
  run.release();
}

}  // namespace

Result<std::unique_ptr<TimeMix>> load_time_mix_v7(const Weights& weights,
                                                  const std::string& prefix) {
  auto mix = std::make_unique<TimeMixV7>();
  RWKV_TRY(mix->load(weights, prefix, prefix == "blocks.0."));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::edge

// time_mix of v7: the generalised delta rule, S = S diag(w) - (S kk)(kk a)^T + v k^T. The lora
// matrices are stored [in, out].
#include <cmath>

#include "compressor/model/initial_state.h"
#include "compressor/model/mix.h"
#include "compressor/model/wkv.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

class TimeMixV7 final : public TimeMix {
 public:
  Status load(const BlockTensors& tensors);
  at::Tensor forward(const Pass& pass, const at::Tensor& x) const override;

 private:
  at::Tensor mix_values(const Pass& pass, const at::Tensor& x_v, const at::Tensor& v) const;
  at::Tensor by_head(const at::Tensor& x) const { return x.view({x.size(0), ln_x_.n_head, -1}); }

  bool is_first_ = false;
  at::Tensor x_r_, x_w_, x_k_, x_v_, x_a_, x_g_;
  at::Tensor w0_, w1_, w2_;  ///< decay
  at::Tensor a0_, a1_, a2_;  ///< in-context learning rate
  at::Tensor v0_, v1_, v2_;  ///< value residual; undefined in the first block
  at::Tensor g1_, g2_;       ///< gate
  at::Tensor k_k_, k_a_, r_k_;
  GroupNorm ln_x_;
  InitialState initial_;
};

Status TimeMixV7::load(const BlockTensors& tensors) {
  is_first_ = tensors.is_first();
  RWKV_TRY(tensors.vectors("att.", {{&x_r_, "x_r"},
                                    {&x_w_, "x_w"},
                                    {&x_k_, "x_k"},
                                    {&x_v_, "x_v"},
                                    {&x_a_, "x_a"},
                                    {&x_g_, "x_g"},
                                    {&w0_, "w0"},
                                    {&a0_, "a0"},
                                    {&k_k_, "k_k"},
                                    {&k_a_, "k_a"},
                                    {&r_k_, "r_k"}}));
  RWKV_TRY(tensors.matrices(
      "att.",
      {{&w1_, "w1"}, {&w2_, "w2"}, {&a1_, "a1"}, {&a2_, "a2"}, {&g1_, "g1"}, {&g2_, "g2"}}));
  if (!is_first_) {
    RWKV_TRY(tensors.vectors("att.", {{&v0_, "v0"}}));
    RWKV_TRY(tensors.matrices("att.", {{&v1_, "v1"}, {&v2_, "v2"}}));
  }
  RWKV_ASSIGN(ln_x_, load_group_norm(tensors));
  RWKV_ASSIGN(initial_, InitialState::load(tensors));
  return {};
}

at::Tensor lora(const at::Tensor& x, const at::Tensor& m1, const at::Tensor& m2) {
  return at::matmul(at::matmul(x, m1), m2);
}

// v + (v_first - v) * sigmoid(v0 + (x_v v1) v2); the first block's v is v_first.
at::Tensor TimeMixV7::mix_values(const Pass& pass, const at::Tensor& x_v,
                                 const at::Tensor& v) const {
  if (is_first_) {
    pass.v_first = v;
    return v;
  }
  return at::lerp(v, pass.v_first, (v0_ + lora(x_v, v1_, v2_)).sigmoid());
}

at::Tensor TimeMixV7::forward(const Pass& pass, const at::Tensor& x) const {
  constexpr double kNormFloor = 1e-12;  // torch.nn.functional.normalize's
  const at::Tensor prev = token_shift(x, pass.length);
  const auto mix = [&](const at::Tensor& coefficient) {
    return mix_previous(x, prev, coefficient);
  };
  const at::Tensor r = pass.product("att.receptance", mix(x_r_));
  const at::Tensor raw_k = pass.product("att.key", mix(x_k_));
  const at::Tensor x_v = mix(x_v_);
  const at::Tensor v = mix_values(pass, x_v, pass.product("att.value", x_v));
  // w = exp(-exp(-0.5) sigmoid(w0 + tanh(x_w w1) w2)), a = sigmoid(a0 + (x_a a1) a2)
  const at::Tensor decay = w0_ + at::matmul(at::matmul(mix(x_w_), w1_).tanh(), w2_);
  const at::Tensor log_w = decay.sigmoid() * -std::exp(-0.5);
  const at::Tensor a = (a0_ + lora(mix(x_a_), a1_, a2_)).sigmoid();
  const at::Tensor g = at::matmul(at::matmul(mix(x_g_), g1_).sigmoid(), g2_);
  // kk = normalise(k * k_k) per head; k = k (1 + (a - 1) k_a)
  const at::Tensor heads = by_head(raw_k * k_k_);
  const at::Tensor kk =
      (heads / heads.norm(2, -1, true).clamp_min(kNormFloor)).reshape(raw_k.sizes());
  const at::Tensor k = raw_k * (1 + (a - 1) * k_a_);
  const at::Tensor y =
      initial_.wkv_v7({r, k, v, log_w}, kk, kk * a, {pass.length, ln_x_.n_head}, pass.state);
  // + (sum_i r_i k_i r_k_i) v per head
  const at::Tensor bonus = by_head(r * k * r_k_).sum(-1, true) * by_head(v);
  return pass.product("att.output", (ln_x_.apply(y) + bonus.reshape(y.sizes())) * g);
}

}  // namespace

Result<std::unique_ptr<TimeMix>> load_time_mix_v7(const BlockTensors& tensors) {
  auto mix = std::make_unique<TimeMixV7>();
  RWKV_TRY(mix->load(tensors));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::press

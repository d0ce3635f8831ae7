// time_mix of v6: as v5.2, with mixing coefficients and decay that depend on the data. The lora
// matrices are stored [in, out].
#include <array>

#include "compressor/model/initial_state.h"
#include "compressor/model/mix.h"
#include "compressor/model/wkv.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// The order of the five mixes in time_maa_w1 and time_maa_w2.
enum Mix { W, K, V, R, G };
constexpr size_t kMixes = 5;

class TimeMixV6 final : public TimeMix {
 public:
  Status load(const BlockTensors& tensors);
  at::Tensor forward(const Pass& pass, const at::Tensor& x) const override;

 private:
  at::Tensor log_decay(const at::Tensor& x_w) const;

  at::Tensor maa_x_;
  std::array<at::Tensor, kMixes> maa_;
  at::Tensor maa_w1_;  ///< [n_embd, 5 * mix_lora]
  at::Tensor maa_w2_;  ///< [5, mix_lora, n_embd]
  at::Tensor decay_, decay_w1_, decay_w2_;
  at::Tensor bonus_;
  GroupNorm ln_x_;
  InitialState initial_;
};

Status TimeMixV6::load(const BlockTensors& tensors) {
  RWKV_TRY(tensors.vectors("att.", {{&maa_x_, "time_maa_x"},
                                    {&maa_[W], "time_maa_w"},
                                    {&maa_[K], "time_maa_k"},
                                    {&maa_[V], "time_maa_v"},
                                    {&maa_[R], "time_maa_r"},
                                    {&maa_[G], "time_maa_g"},
                                    {&decay_, "time_decay"},
                                    {&bonus_, "time_faaaa"}}));
  RWKV_TRY(tensors.matrices("att.", {{&maa_w1_, "time_maa_w1"},
                                     {&maa_w2_, "time_maa_w2"},
                                     {&decay_w1_, "time_decay_w1"},
                                     {&decay_w2_, "time_decay_w2"}}));
  RWKV_ASSIGN(ln_x_, load_group_norm(tensors));
  RWKV_ASSIGN(initial_, InitialState::load(tensors));
  return {};
}

// log w = -exp(time_decay + tanh(x_w w1) w2), per token and channel.
at::Tensor TimeMixV6::log_decay(const at::Tensor& x_w) const {
  const at::Tensor inner = at::matmul(x_w, decay_w1_).tanh();
  return -(decay_ + at::matmul(inner, decay_w2_)).exp();
}

at::Tensor TimeMixV6::forward(const Pass& pass, const at::Tensor& x) const {
  const at::Tensor prev = token_shift(x, pass.length);
  // x_q = x + (prev - x) * (maa_q + m_q), m = tanh((x + (prev - x) maa_x) w1) w2 in five parts.
  const at::Tensor inner = at::matmul(mix_previous(x, prev, maa_x_), maa_w1_).tanh();
  const auto mixed = [&](Mix q) {
    const int64_t rank = maa_w2_.size(1);
    const at::Tensor part = at::matmul(inner.narrow(1, q * rank, rank), maa_w2_.select(0, q));
    return mix_previous(x, prev, maa_[q] + part);
  };
  const at::Tensor r = pass.product("att.receptance", mixed(R));
  const at::Tensor k = pass.product("att.key", mixed(K));
  const at::Tensor v = pass.product("att.value", mixed(V));
  const at::Tensor log_w = log_decay(mixed(W));
  const at::Tensor y = ln_x_.apply(
      initial_.wkv_v5({r, k, v, log_w}, bonus_, {pass.length, ln_x_.n_head}, pass.state));
  const at::Tensor g = at::silu(pass.product("att.gate", mixed(G)));
  return pass.product("att.output", y * g);
}

}  // namespace

Result<std::unique_ptr<TimeMix>> load_time_mix_v6(const BlockTensors& tensors) {
  auto mix = std::make_unique<TimeMixV6>();
  RWKV_TRY(mix->load(tensors));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::press

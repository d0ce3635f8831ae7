// time_mix of v5.0 (heads, group norm), v5.1 (+ gate) and v5.2 (decay per channel); x058 and x059
// are v5.2 whose projections are factor pairs.
#include "compressor/model/initial_state.h"
#include "compressor/model/mix.h"
#include "compressor/model/wkv.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

class TimeMixV5 final : public TimeMix {
 public:
  Status load(const BlockTensors& tensors);
  at::Tensor forward(const Pass& pass, const at::Tensor& x) const override;

 private:
  bool has_gate_ = false;
  bool bonus_is_log_ = false;  ///< per head time_first is a logarithm, time_faaaa is not
  at::Tensor mix_k_, mix_v_, mix_r_, mix_g_;
  at::Tensor decay_, bonus_;  ///< as stored, per head or per channel
  GroupNorm ln_x_;
  InitialState initial_;
};

// One value per head, or one per channel already, to one per channel.
at::Tensor per_channel(const at::Tensor& values, int64_t dim_att) {
  return values.numel() == dim_att ? values : values.repeat_interleave(dim_att / values.numel());
}

Status TimeMixV5::load(const BlockTensors& tensors) {
  const ModelConfig& config = tensors.config();
  has_gate_ = config.version != Version::V5_0;
  const bool is_first = !tensors.contains("att.time_faaaa");
  bonus_is_log_ = is_first && config.version != Version::V5_2;
  RWKV_TRY(tensors.vectors("att.", {{&mix_k_, "time_mix_k"},
                                    {&mix_v_, "time_mix_v"},
                                    {&mix_r_, "time_mix_r"},
                                    {&bonus_, is_first ? "time_first" : "time_faaaa"},
                                    {&decay_, "time_decay"}}));
  RWKV_ASSIGN(ln_x_, load_group_norm(tensors));
  RWKV_ASSIGN(initial_, InitialState::load(tensors));
  if (has_gate_) {
    RWKV_ASSIGN(mix_g_, tensors.vector("att.time_mix_g"));
  }
  return {};
}

at::Tensor TimeMixV5::forward(const Pass& pass, const at::Tensor& x) const {
  const at::Tensor prev = token_shift(x, pass.length);
  const at::Tensor r = pass.product("att.receptance", mix_new(x, prev, mix_r_));
  const at::Tensor k = pass.product("att.key", mix_new(x, prev, mix_k_));
  const at::Tensor v = pass.product("att.value", mix_new(x, prev, mix_v_));
  const at::Tensor log_w = per_channel(-decay_.exp(), k.size(1));
  const at::Tensor bonus = per_channel(bonus_is_log_ ? bonus_.exp() : bonus_, k.size(1));
  at::Tensor y = ln_x_.apply(
      initial_.wkv_v5({r, k, v, log_w}, bonus, {pass.length, ln_x_.n_head}, pass.state));
  if (has_gate_) {
    y = y * at::silu(pass.product("att.gate", mix_new(x, prev, mix_g_)));
  }
  return pass.product("att.output", y);
}

}  // namespace

Result<std::unique_ptr<TimeMix>> load_time_mix_v5(const BlockTensors& tensors) {
  auto mix = std::make_unique<TimeMixV5>();
  RWKV_TRY(mix->load(tensors));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::press

// time_mix of v4: a weighted average per channel, gated by sigmoid(receptance).
#include "compressor/model/mix.h"
#include "compressor/model/wkv.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

class TimeMixV4 final : public TimeMix {
 public:
  Status load(const BlockTensors& tensors);
  at::Tensor forward(const Pass& pass, const at::Tensor& x) const override;

 private:
  at::Tensor mix_k_, mix_v_, mix_r_;
  at::Tensor bonus_, decay_;
};

Status TimeMixV4::load(const BlockTensors& tensors) {
  RWKV_TRY(tensors.vectors("att.", {{&mix_k_, "time_mix_k"},
                                    {&mix_v_, "time_mix_v"},
                                    {&mix_r_, "time_mix_r"},
                                    {&bonus_, "time_first"},
                                    {&decay_, "time_decay"}}));
  return {};
}

at::Tensor TimeMixV4::forward(const Pass& pass, const at::Tensor& x) const {
  const at::Tensor prev = token_shift(x, pass.length);
  const at::Tensor r = pass.product("att.receptance", mix_new(x, prev, mix_r_));
  const at::Tensor k = pass.product("att.key", mix_new(x, prev, mix_k_));
  const at::Tensor v = pass.product("att.value", mix_new(x, prev, mix_v_));
  const at::Tensor wkv = wkv_v4(k, v, -decay_.exp(), bonus_, pass.length);
  return pass.product("att.output", r.sigmoid() * wkv);
}

}  // namespace

Result<std::unique_ptr<TimeMix>> load_time_mix_v4(const BlockTensors& tensors) {
  auto mix = std::make_unique<TimeMixV4>();
  RWKV_TRY(mix->load(tensors));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::press

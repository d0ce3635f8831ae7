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

// One more token behind every sequence, whose own key weighs nothing, reads the average.
at::Tensor wkv_v4_and_state(const at::Tensor& k, const at::Tensor& v, const at::Tensor& decay,
                            const at::Tensor& bonus, int64_t length, at::Tensor* state) {
  if (state == nullptr) {
    return wkv_v4(k, v, decay, bonus, length);
  }
  constexpr double kNothing = -1e9;
  const int64_t dim_att = k.size(1);
  const auto with_reader = [&](const at::Tensor& rows, double value) {
    const at::Tensor sequences = rows.reshape({-1, length, dim_att});
    const at::Tensor reader = at::full({sequences.size(0), 1, dim_att}, value, rows.options());
    return at::cat({sequences, reader}, 1).reshape({-1, dim_att});
  };
  const at::Tensor y = wkv_v4(with_reader(k, kNothing), with_reader(v, 0), decay, bonus, length + 1)
                           .reshape({-1, length + 1, dim_att});
  *state = y.narrow(1, length, 1);
  return y.narrow(1, 0, length).reshape({-1, dim_att});
}

at::Tensor TimeMixV4::forward(const Pass& pass, const at::Tensor& x) const {
  const at::Tensor prev = token_shift(x, pass.length);
  const at::Tensor r = pass.product("att.receptance", mix_new(x, prev, mix_r_));
  const at::Tensor k = pass.product("att.key", mix_new(x, prev, mix_k_));
  const at::Tensor v = pass.product("att.value", mix_new(x, prev, mix_v_));
  const at::Tensor wkv = wkv_v4_and_state(k, v, -decay_.exp(), bonus_, pass.length, pass.state);
  return pass.product("att.output", r.sigmoid() * wkv);
}

}  // namespace

Result<std::unique_ptr<TimeMix>> load_time_mix_v4(const BlockTensors& tensors) {
  auto mix = std::make_unique<TimeMixV4>();
  RWKV_TRY(mix->load(tensors));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::press

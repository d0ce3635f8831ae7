// channel_mix of all versions: k = relu(K x_k)^2, out = V k, gated by sigmoid(R x_r) before v7.
#include "compressor/model/mix.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

class ChannelMixImpl final : public ChannelMix {
 public:
  Status load(const BlockTensors& tensors);
  at::Tensor forward(const Pass& pass, const at::Tensor& x) const override;

 private:
  using MixFn = at::Tensor (*)(const at::Tensor&, const at::Tensor&, const at::Tensor&);
  MixFn mix_ = mix_new;
  at::Tensor mix_k_;
  at::Tensor mix_r_;  ///< undefined where there is no receptance
};

Status ChannelMixImpl::load(const BlockTensors& tensors) {
  switch (tensors.config().version) {
    case Version::V4:
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      return tensors.vectors("ffn.", {{&mix_k_, "time_mix_k"}, {&mix_r_, "time_mix_r"}});
    case Version::V6:
      mix_ = mix_previous;
      return tensors.vectors("ffn.", {{&mix_k_, "time_maa_k"}, {&mix_r_, "time_maa_r"}});
    case Version::V7:
      mix_ = mix_previous;
      return tensors.vectors("ffn.", {{&mix_k_, "x_k"}});
    case Version::V7a:
      return usage_error(
          "v7a (DeepEmbed) cannot learn from text: its channel_mix depends on the token, which "
          "this "
          "network does not see; use a recipe that only quantises (fp32, fp16, int8)");
  }
  return bad_input("unknown version");
}

at::Tensor ChannelMixImpl::forward(const Pass& pass, const at::Tensor& x) const {
  const at::Tensor prev = token_shift(x, pass.length);
  const at::Tensor neurons = relu_squared(pass.product("ffn.key", mix_(x, prev, mix_k_)));
  at::Tensor out = pass.product("ffn.value", neurons);
  if (!mix_r_.defined()) {
    return out;
  }
  return out * pass.product("ffn.receptance", mix_(x, prev, mix_r_)).sigmoid();
}

}  // namespace

Result<std::unique_ptr<ChannelMix>> load_channel_mix(const BlockTensors& tensors) {
  auto mix = std::make_unique<ChannelMixImpl>();
  RWKV_TRY(mix->load(tensors));
  return std::unique_ptr<ChannelMix>(std::move(mix));
}

}  // namespace rwkv::press

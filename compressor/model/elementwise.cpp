#include "compressor/model/elementwise.h"

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

at::Tensor LayerNorm::apply(const at::Tensor& x) const {
  constexpr double kEps = 1e-5;
  return at::layer_norm(x, weight.sizes(), weight, bias, kEps);
}

Result<LayerNorm> load_layer_norm(const NamedTensors& tensors, const std::string& stem) {
  LayerNorm norm;
  RWKV_ASSIGN(norm.weight, tensors.vector(stem + ".weight"));
  RWKV_ASSIGN(norm.bias, tensors.vector(stem + ".bias"));
  return norm;
}

at::Tensor token_shift(const at::Tensor& x, int64_t length) {
  const at::Tensor sequences = x.reshape({-1, length, x.size(1)});
  const at::Tensor all_but_last = sequences.narrow(1, 0, length - 1);
  // Pads as (last dimension before, after, the one before it before, after).
  return at::constant_pad_nd(all_but_last, {0, 0, 1, 0}).reshape(x.sizes());
}

at::Tensor mix_new(const at::Tensor& x, const at::Tensor& prev, const at::Tensor& mix) {
  return at::lerp(prev, x, mix);
}

at::Tensor mix_previous(const at::Tensor& x, const at::Tensor& prev, const at::Tensor& mix) {
  return at::lerp(x, prev, mix);
}

at::Tensor relu_squared(const at::Tensor& x) {
  return at::relu(x).square();
}

}  // namespace rwkv::press

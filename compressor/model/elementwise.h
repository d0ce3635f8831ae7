// Operations of all versions between products: norms, token shift, mixing. Rows are tokens,
// sequence after sequence: [batch * length, n].
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "compressor/model/named_tensors.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Over the last dimension, with the architecture's epsilon of 1e-5.
struct LayerNorm {
  at::Tensor weight, bias;  ///< [n]
  at::Tensor apply(const at::Tensor& x) const;
};
/// From the tensors `stem`.weight and `stem`.bias; BadInput if one is missing.
Result<LayerNorm> load_layer_norm(const NamedTensors& tensors, const std::string& stem);

/// Each token's predecessor in its sequence of `length` tokens; zeros before the first.
at::Tensor token_shift(const at::Tensor& x, int64_t length);

/// v4 and v5: x * mix + prev * (1 - mix). `mix` is [n], or one per token.
at::Tensor mix_new(const at::Tensor& x, const at::Tensor& prev, const at::Tensor& mix);
/// v6 and v7: x + (prev - x) * mix.
at::Tensor mix_previous(const at::Tensor& x, const at::Tensor& prev, const at::Tensor& mix);

at::Tensor relu_squared(const at::Tensor& x);

}  // namespace rwkv::press

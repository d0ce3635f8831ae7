// How far a model's predictions are from those of another.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkv::press {

/// KL(dense || changed) in nats, the mean over tokens. `z` are the inputs of the heads, f32
/// [tokens, n_embd], heads f32 [n_vocab, n_embd]. A few tokens' logits are in memory at a time. The
/// same with any number of threads.
double prediction_distance(const at::Tensor& dense_z, const at::Tensor& dense_head,
                           const at::Tensor& changed_z, const at::Tensor& changed_head);

}  // namespace rwkv::press

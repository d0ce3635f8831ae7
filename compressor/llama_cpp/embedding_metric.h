// What errors of an embedding cost. It is no product with inputs, so its metric comes from the
// other side: the gradients of the loss of the text.
#pragma once

#include <ATen/core/Tensor.h>

#include "formats/arch/model_config.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// True if the whole model, in f32, is small enough for a backward pass.
bool has_embedding_metric(const TensorSource& source);

/// M, f32 [n_embd, n_embd], for which e M e^T is about what an error e of a row costs: E[g g^T]
/// over the gradients g of the cross-entropy with respect to the embeddings of tokens, int64
/// [samples, length], taken back through ln0 (without its division, which is the same for all of a
/// row). The whole model is in memory meanwhile. The same bits with any number of threads.
Result<at::Tensor> embedding_metric(const TensorSource& source, const ModelConfig& config,
                                    const at::Tensor& tokens);

}  // namespace rwkv::press

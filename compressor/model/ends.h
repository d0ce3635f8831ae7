// The parts before the first block and after the last one.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressor/model/named_tensors.h"
#include "formats/arch/model_config.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Embedding with ln0 applied, unless its rows already have it (config.ln0_folded): tokens int64
/// [batch, length] to [batch, length, n_embd]. Reads one row per distinct token, so the table is
/// never in memory. BadInput for a token outside the vocabulary or a tensor that is missing.
Result<at::Tensor> embed(const TensorSource& source, const ModelConfig& config,
                         const at::Tensor& tokens);

/// ln_out of the last hidden states, [n, n_embd] to [n, n_embd]: the input of the head.
Result<at::Tensor> head_input(const TensorSource& source, const at::Tensor& hidden);

}  // namespace rwkv::press

// What a forward pass of the network takes, from shapes alone.
#pragma once

#include <cstdint>

#include "compressor/numerics/needs.h"
#include "formats/arch/model_config.h"

namespace rwkv::press {

/// Bytes at the peak of a forward pass of one block over `tokens` tokens, without its weights and
/// without gradients.
uint64_t forward_bytes(const ModelConfig& config, uint64_t tokens);
/// Bytes that a pass with gradients keeps of one block until the backward pass.
uint64_t saved_bytes(const ModelConfig& config, uint64_t tokens);
/// The work of a forward pass of `tokens` tokens through blocks with `weights` elements in all,
/// without the head.
Effort forward_effort(const ModelConfig& config, uint64_t weights, uint64_t tokens);

}  // namespace rwkv::press

// The two halves of a block. One TimeMix per version (v4.cpp ... v7.cpp); channel_mix differs less
// and is in channel_mix.cpp.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "runtime/memory/weights.h"
#include "runtime/model/pass.h"

namespace rwkv::edge {

/// x is the normed input, out is added to the residual stream; both [n_tokens][n_embd]. The state
/// of the layer is in pass.state and advances by n_tokens.
class TimeMix {
 public:
  virtual ~TimeMix() = default;
  /// Fails if storage does, from which its matrices may be read.
  virtual Status forward(Pass& pass, const float* x, float* out) const = 0;
};

class ChannelMix {
 public:
  virtual ~ChannelMix() = default;
  /// Fails if storage does, from which neurons may be read.
  virtual Status forward(Pass& pass, const float* x, float* out) const = 0;
};

// Loaders; `prefix` is "blocks.N.". They only look tensors up: identify() has checked the shapes.
Result<std::unique_ptr<TimeMix>> load_time_mix_v4(const Weights& weights,
                                                  const std::string& prefix);
Result<std::unique_ptr<TimeMix>> load_time_mix_v5(const Weights& weights,
                                                  const std::string& prefix);
Result<std::unique_ptr<TimeMix>> load_time_mix_v6(const Weights& weights,
                                                  const std::string& prefix);
Result<std::unique_ptr<TimeMix>> load_time_mix_v7(const Weights& weights,
                                                  const std::string& prefix);
Result<std::unique_ptr<ChannelMix>> load_channel_mix(const Weights& weights,
                                                     const std::string& prefix);

/// The loader of the config's version.
Result<std::unique_ptr<TimeMix>> load_time_mix(const Weights& weights, const std::string& prefix);

// Floats per token that each half takes of the arena, factor pairs of projections left out.
size_t time_mix_floats_v4(const ModelConfig& config);
size_t time_mix_floats_v5(const ModelConfig& config);
size_t time_mix_floats_v6(const ModelConfig& config);
size_t time_mix_floats_v7(const ModelConfig& config);
size_t time_mix_floats(const ModelConfig& config);
size_t channel_mix_floats(const ModelConfig& config);

}  // namespace rwkv::edge

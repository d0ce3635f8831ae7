// The two halves of a block. One TimeMix per version (v4.cpp ... v7.cpp); channel_mix differs less
// and is in channel_mix.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compressor/model/block.h"
#include "compressor/model/named_tensors.h"

namespace rwkv::press {

/// What one forward pass of a block works with.
struct Pass {
  const std::map<std::string, Linear>& linears;
  const Observe& observe;
  Precision precision;
  int64_t length;               ///< tokens per sequence; a tensor's rows are all sequences' tokens
  at::Tensor& v_first;          ///< see Block::forward
  at::Tensor* state = nullptr;  ///< receives BlockState::wkv; may be null
  /// If set, the inputs of these products are all that is asked for; the outputs of products on
  /// which none of them depends are zeros.
  const std::vector<std::string>* only_inputs = nullptr;

  /// If set, called with the output of each product.
  const Observe* outputs = nullptr;

  /// The block's product `name` of x [n, in], shown to the observer first.
  at::Tensor product(const std::string& name, const at::Tensor& x) const;
};

/// x is the normed input; the result is what is added to the residual; both [n, n_embd].
class TimeMix {
 public:
  virtual ~TimeMix() = default;
  virtual at::Tensor forward(const Pass& pass, const at::Tensor& x) const = 0;
};

class ChannelMix {
 public:
  virtual ~ChannelMix() = default;
  virtual at::Tensor forward(const Pass& pass, const at::Tensor& x) const = 0;
};

// Loaders of everything but the products, which the block has.
Result<std::unique_ptr<TimeMix>> load_time_mix_v4(const BlockTensors& tensors);
Result<std::unique_ptr<TimeMix>> load_time_mix_v5(const BlockTensors& tensors);
Result<std::unique_ptr<TimeMix>> load_time_mix_v6(const BlockTensors& tensors);
Result<std::unique_ptr<TimeMix>> load_time_mix_v7(const BlockTensors& tensors);
Result<std::unique_ptr<ChannelMix>> load_channel_mix(const BlockTensors& tensors);

/// ln_x: the norm over each head's values, y [n, dim_att].
struct GroupNorm {
  at::Tensor weight, bias;  ///< [dim_att]
  int64_t n_head = 0;
  double eps = 0.0;
  at::Tensor apply(const at::Tensor& y) const;
};
Result<GroupNorm> load_group_norm(const BlockTensors& tensors);

}  // namespace rwkv::press

// One block of the network over whole sequences, in LibTorch. Calibration runs it to observe the
// inputs of products, and training differentiates it. Formulas are those of runtime/model, which
// has the state and the kernels that a device needs.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compressor/model/elementwise.h"
#include "compressor/model/linear.h"
#include "compressor/model/named_tensors.h"
#include "formats/arch/model_config.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

class TimeMix;
class ChannelMix;

/// What a block hands on to the next part of a text: its state after the last token of every
/// sequence.
struct BlockState {
  /// The recurrence's, by rows: [batch, head_size, dim_att], row i has key i of every head's
  /// values; v4's weighted average, [batch, 1, dim_att].
  at::Tensor wkv;
  /// The normed inputs of time_mix and channel_mix, which the next token mixes with its own,
  /// [batch, 2, n_embd].
  at::Tensor shift;
};

/// Called with the input of each product before it is computed: its name within the block
/// ("att.key", "ffn.value") and the input [batch * length, in], which the observer may keep but
/// must not change.
using Observe = std::function<void(const std::string& name, const at::Tensor& input)>;

class Block {
 public:
  /// Loads block `index` as f32. `config` is what identify() found in the source; neither is needed
  /// afterwards. BadInput names the tensor that is missing.
  static Result<std::unique_ptr<Block>> load(const NamedTensors& tensors, const ModelConfig& config,
                                             int64_t index);
  static Result<std::unique_ptr<Block>> load(const TensorSource& source, const ModelConfig& config,
                                             int64_t index, const at::Device& device = at::kCPU) {
    return load(NamedTensors(source, nullptr, device), config, index);
  }
  virtual ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// x [batch, length, n_embd], at least one token, every sequence from the empty state, to the
  /// new residual stream: x + time_mix + channel_mix, of the same shape. `v_first` is v7's value
  /// of the first block, [batch * length, dim_att]: block 0 sets it, later blocks of the same
  /// batch read it; other versions ignore it. `observe` may be empty. Differentiable in x,
  /// v_first and every tensor that `Adopt` made a leaf; so is `state`, which receives the state
  /// unless it is null.
  at::Tensor forward(const at::Tensor& x, at::Tensor& v_first, const Observe& observe,
                     BlockState* state = nullptr) const;

  /// The same, but shows the output of each product, which is part of the graph.
  at::Tensor forward_shown(const at::Tensor& x, at::Tensor& v_first, const Observe& outputs) const;

  /// Shows the inputs of `products` alone, the same bits as forward() would, and computes only what
  /// they depend on. `v_first` as in forward(), which the caller keeps.
  void show_inputs(const at::Tensor& x, at::Tensor v_first,
                   const std::vector<std::string>& products, const Observe& observe) const;

  /// The products by name within the block, so that a caller can replace one: "att.receptance",
  /// "att.key", "att.value", "att.gate", "att.output", "ffn.key", "ffn.value", "ffn.receptance",
  /// as far as the version has them. The lora matrices of v6 and v7 are not among them. Names must
  /// not change.
  std::map<std::string, Linear> linears;
  /// Of these products.
  Precision precision = Precision::F32;

 private:
  Block();
  at::Tensor run(const at::Tensor& x, at::Tensor& v_first, const Observe& inputs,
                 const Observe* outputs, BlockState* state) const;

  LayerNorm ln1_, ln2_;
  std::unique_ptr<TimeMix> time_mix_;
  std::unique_ptr<ChannelMix> channel_mix_;
};

}  // namespace rwkv::press

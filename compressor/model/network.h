// The whole network in memory, in f32, for training and as a teacher.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compressor/model/block.h"
#include "formats/arch/model_config.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// A trainable tensor: a leaf, vectors flat, under its BlinkDL name.
struct Parameter {
  std::string name;
  at::Tensor values;
};

class Network {
 public:
  /// Whether a tensor, by its BlinkDL name, gets gradients and is trained.
  using IsTrainable = std::function<bool(const std::string& name)>;

  /// Loads every tensor that a forward pass uses; those that `is_trainable` names become leaves
  /// with gradients. `config` is what identify() found in `source`, neither is needed afterwards.
  /// All of it lies on `device`, as do then the tokens that it takes and what it gives.
  static Result<std::unique_ptr<Network>> load(const TensorSource& source,
                                               const ModelConfig& config,
                                               const IsTrainable& is_trainable,
                                               const at::Device& device = at::kCPU);

  const ModelConfig& config() const { return config_; }
  /// In the order of loading. Modules share their memory: values written in place into `values` are
  /// the ones that they compute with.
  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Keeps the matrices that have no gradients in half the memory where no value changes by it; to
  /// be called once, after loading. Who changes matrices himself must not.
  void hold_fixed();
  /// Of all products of blocks.
  void set_precision(Precision precision);

  /// tokens int64 [batch, length], within the vocabulary, to [batch, length, n_embd].
  at::Tensor embed(const at::Tensor& tokens) const;
  int64_t n_layer() const { return static_cast<int64_t>(blocks_.size()); }
  const Block& block(int64_t index) const { return *blocks_[static_cast<size_t>(index)]; }
  /// x [batch, length, n_embd] after the last block to the head's input [batch * length, n_embd].
  at::Tensor head_input(const at::Tensor& x) const;
  /// [n_vocab, n_embd], f32 unless it is held in fewer bits.
  const at::Tensor& head() const { return head_; }
  /// The whole pass: [batch, length] to [batch * length, n_vocab].
  at::Tensor logits(const at::Tensor& tokens) const;

 private:
  Network() = default;
  ModelConfig config_;
  std::vector<Parameter> parameters_;
  at::Tensor embedding_, head_;
  LayerNorm ln0_, ln_out_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

}  // namespace rwkv::press

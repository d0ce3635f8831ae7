#include "compressor/model/network.h"

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

Result<std::unique_ptr<Network>> Network::load(const TensorSource& source,
                                               const ModelConfig& config,
                                               const IsTrainable& is_trainable,
                                               const at::Device& device) {
  std::unique_ptr<Network> network(new Network);
  network->config_ = config;
  const Adopt adopt = [&](const std::string& name, at::Tensor& values) {
    if (is_trainable && is_trainable(name)) {
      values = values.contiguous().set_requires_grad(true);
      network->parameters_.push_back({name, values});
    }
  };
  const NamedTensors tensors(source, &adopt, device);
  RWKV_ASSIGN(network->embedding_, tensors.matrix("emb.weight"));
  if (!config.ln0_folded) {
    RWKV_ASSIGN(network->ln0_, load_layer_norm(tensors, "blocks.0.ln0"));
  }
  for (uint64_t i = 0; i < config.n_layer; ++i) {
    RWKV_ASSIGN(auto block, Block::load(tensors, config, static_cast<int64_t>(i)));
    network->blocks_.push_back(std::move(block));
  }
  RWKV_ASSIGN(network->ln_out_, load_layer_norm(tensors, "ln_out"));
  RWKV_ASSIGN(network->head_, tensors.matrix("head.weight"));
  return network;
}

void Network::hold_fixed() {
  embedding_ = held(embedding_);
  head_ = held(head_);
  for (const std::unique_ptr<Block>& block : blocks_) {
    for (auto& [name, linear] : block->linears) {
      linear.dense = held(linear.dense);
      linear.factor_a = held(linear.factor_a);
      linear.factor_b = held(linear.factor_b);
    }
  }
}

void Network::set_precision(Precision precision) {
  for (const std::unique_ptr<Block>& block : blocks_) {
    block->precision = precision;
  }
}

at::Tensor Network::embed(const at::Tensor& tokens) const {
  const at::Tensor rows = at::embedding(embedding_, tokens).to(at::kFloat);
  return ln0_.weight.defined() ? ln0_.apply(rows) : rows;
}

at::Tensor Network::head_input(const at::Tensor& x) const {
  return ln_out_.apply(x.reshape({-1, x.size(-1)}));
}

at::Tensor Network::logits(const at::Tensor& tokens) const {
  at::Tensor x = embed(tokens);
  at::Tensor v_first;
  for (const std::unique_ptr<Block>& block : blocks_) {
    x = block->forward(x, v_first, {});
  }
  return product(head_input(x), head_, Precision::F32);
}

}  // namespace rwkv::press

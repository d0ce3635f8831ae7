#include "compressor/llama_cpp/embedding_metric.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "compressor/calibrate/walk.h"
#include "compressor/model/network.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/train/head_loss.h"

namespace rwkv::press {
namespace {

constexpr int64_t kBatchTokens = 1024;
constexpr uint64_t kMostElements = uint64_t{1} << 30;  // 4 GiB

// The gradients of a batch, [n, n_embd].
at::Tensor gradients_of(const Network& network, const at::Tensor& tokens) {
  const int64_t length = tokens.size(1) - 1;
  const at::Tensor targets = tokens.narrow(1, 1, length).reshape({-1}).contiguous();
  at::Tensor embedded;
  {
    const at::NoGradGuard no_grad;
    embedded = network.embed(tokens.narrow(1, 0, length).contiguous());
  }
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = embedded.detach().set_requires_grad(true);
  at::Tensor x = leaf;
  at::Tensor v_first;
  for (int64_t i = 0; i < network.n_layer(); ++i) {
    x = network.block(i).forward(x, v_first, {});
  }
  const at::Tensor input = network.head_input(x);
  const HeadLoss loss =
      head_loss(input.detach(), network.head(), targets, nullptr, HeadLossOptions{}, 1.0);
  torch::autograd::backward({input}, {loss.grad_input});
  return leaf.grad().reshape({-1, leaf.size(2)});
}

}  // namespace

bool has_embedding_metric(const TensorSource& source) {
  uint64_t n = 0;
  for (const TensorInfo& info : source.tensors()) {
    n += info.n_elements();
  }
  return n <= kMostElements;
}

Result<at::Tensor> embedding_metric(const TensorSource& source, const ModelConfig& config,
                                    const at::Tensor& tokens) {
  RWKV_ASSIGN(const std::unique_ptr<Network> network,
              Network::load(source, config, [](const std::string&) { return false; }));
  const SingleThread one;
  const int64_t per_batch = std::max<int64_t>(1, kBatchTokens / tokens.size(1));
  MomentSum sum;
  for (int64_t first = 0; first < tokens.size(0); first += per_batch) {
    const int64_t n = std::min(per_batch, tokens.size(0) - first);
    sum.add(gradients_of(*network, tokens.narrow(0, first, n)));
  }
  RWKV_ASSIGN(const at::Tensor ln0, load_named(source, "blocks.0.ln0.weight"));
  const at::Tensor weight = ln0.reshape({-1});
  // An error that all channels share is removed by the norm.
  at::Tensor metric = sum.mean() * weight.unsqueeze(0) * weight.unsqueeze(1);
  metric = metric - metric.mean(0, true);
  return (metric - metric.mean(1, true)).contiguous();
}

}  // namespace rwkv::press

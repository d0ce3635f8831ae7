#include "compressor/calibrate/walk.h"

#include <algorithm>

#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// Tokens per batch: products are large enough to be fast, activations within a block stay small.
constexpr int64_t kBatchTokens = 4096;

}  // namespace

Result<Walk> Walk::begin(const TensorSource& source, const ModelConfig& config,
                         const at::Tensor& tokens) {
  const int64_t per_batch = std::max<int64_t>(1, kBatchTokens / tokens.size(1));
  Walk walk;
  for (int64_t first = 0; first < tokens.size(0); first += per_batch) {
    const int64_t n = std::min(per_batch, tokens.size(0) - first);
    RWKV_ASSIGN(at::Tensor x, embed(source, config, tokens.narrow(0, first, n)));
    walk.batches_.push_back(std::move(x));
  }
  walk.v_first_.resize(walk.batches_.size());
  return walk;
}

void Walk::observe(const Block& block, const Observe& observer) {
  for (size_t i = 0; i < batches_.size(); ++i) {
    observe(block, i, observer);
  }
}

void Walk::observe(const Block& block, size_t batch, const Observe& observer) {
  at::Tensor v_first = v_first_[batch];
  block.forward(batches_[batch], v_first, observer);
}

void Walk::advance(const Block& block, const Observe& observer) {
  for (size_t i = 0; i < batches_.size(); ++i) {
    batches_[i] = block.forward(batches_[i], v_first_[i], observer);
  }
}

at::Tensor Walk::hidden() const {
  const at::Tensor all = at::cat(batches_, 0);
  return all.reshape({-1, all.size(-1)});
}

void MomentSum::add(const at::Tensor& inputs) {
  const at::Tensor products = at::mm(inputs.t(), inputs);
  sum_ = sum_.defined() ? sum_.add_(products) : products;
  n_ += inputs.size(0);
}

at::Tensor MomentSum::mean() const {
  return sum_ / static_cast<double>(n_);
}

}  // namespace rwkv::press

#include "compressor/calibrate/walk.h"

#include <algorithm>

#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

// Tokens per batch: products are large enough to be fast, activations within a block stay small.
constexpr int64_t kBatchTokens = 4096;
// Rows of a sum of moments that one thread adds up at once.
constexpr int64_t kTile = 256;

// A block on one thread, since BLAS cuts its products differently for each number of threads; who
// observes has all of them.
at::Tensor forward(const Block& block, const at::Tensor& x, at::Tensor& v_first,
                   const Observe& observer) {
  const int n_threads = at::get_num_threads();
  const SingleThread one;
  const Observe with_all = [&](const std::string& product, const at::Tensor& inputs) {
    at::set_num_threads(n_threads);
    observer(product, inputs);
    at::set_num_threads(1);
  };
  return block.forward(x, v_first, observer ? with_all : observer);
}

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
  forward(block, batches_[batch], v_first, observer);
}

void Walk::advance(const Block& block, const Observe& observer) {
  for (size_t i = 0; i < batches_.size(); ++i) {
    batches_[i] = forward(block, batches_[i], v_first_[i], observer);
  }
}

at::Tensor Walk::hidden() const {
  const at::Tensor all = at::cat(batches_, 0);
  return all.reshape({-1, all.size(-1)});
}

void MomentSum::add(const at::Tensor& inputs) {
  const int64_t n = inputs.size(1);
  if (!sum_.defined()) {
    sum_ = at::zeros({n, n}, inputs.options());
  }
  // The moments are symmetric: a tile has some rows, as far as the diagonal. Early tiles are short
  // and late ones long; a thread that takes one from each end has as much to do as the others.
  const int64_t n_tiles = (n + kTile - 1) / kTile;
  const auto add_tile = [&](int64_t tile) {
    const int64_t begin = tile * kTile;
    const int64_t size = std::min(kTile, n - begin);
    const at::Tensor x = inputs.narrow(1, begin, size);
    sum_.narrow(0, begin, size)
        .narrow(1, 0, begin + size)
        .add_(at::mm(x.t(), inputs.narrow(1, 0, begin + size)));
  };
  in_tiles((n_tiles + 1) / 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      add_tile(tile);
      if (n_tiles - 1 - tile != tile) {
        add_tile(n_tiles - 1 - tile);
      }
    }
  });
  n_ += inputs.size(0);
}

at::Tensor MomentSum::mean() const {
  return (sum_.tril() + sum_.tril(-1).t()) / static_cast<double>(n_);
}

}  // namespace rwkv::press

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

// An input of a product, until it is shown.
struct Seen {
  std::string product;
  at::Tensor inputs;
};

// One batch on the thread of its tile, since BLAS cuts its products differently for each number of
// threads. Inputs are kept, since observers see them in the order of the batches.
at::Tensor pass(const Block& block, const at::Tensor& x, at::Tensor& v_first,
                const Walk::Products& products, bool moves, std::vector<Seen>* seen) {
  Observe keep;
  if (seen != nullptr) {
    keep = [&](const std::string& product, const at::Tensor& inputs) {
      if (products.empty() ||
          std::find(products.begin(), products.end(), product) != products.end()) {
        seen->push_back({product, inputs});
      }
    };
  }
  if (!moves && !products.empty()) {
    block.show_inputs(x, v_first, products, keep);
    return x;
  }
  at::Tensor own_first = v_first;
  const at::Tensor next = block.forward(x, moves ? v_first : own_first, keep);
  return moves ? next : x;
}

}  // namespace

Result<Walk> Walk::begin(const TensorSource& source, const ModelConfig& config,
                         const at::Tensor& tokens, const at::Device& device) {
  const int64_t per_batch = std::max<int64_t>(1, kBatchTokens / tokens.size(1));
  Walk walk;
  for (int64_t first = 0; first < tokens.size(0); first += per_batch) {
    const int64_t n = std::min(per_batch, tokens.size(0) - first);
    RWKV_ASSIGN(const at::Tensor x, embed(source, config, tokens.narrow(0, first, n)));
    walk.batches_.push_back(x.to(device));
  }
  walk.v_first_.resize(walk.batches_.size());
  return walk;
}

void Walk::each(const Block& block, const Products& products, const Observe& observer, bool moves) {
  const auto at_once = static_cast<size_t>(std::max(1, at::get_num_threads()));
  for (size_t first = 0; first < batches_.size(); first += at_once) {
    const size_t n = std::min(at_once, batches_.size() - first);
    std::vector<std::vector<Seen>> seen(n);
    in_tiles(static_cast<int64_t>(n), 1, [&](int64_t begin, int64_t /*end*/) {
      const size_t batch = first + static_cast<size_t>(begin);
      batches_[batch] = pass(block, batches_[batch], v_first_[batch], products, moves,
                             observer ? &seen[static_cast<size_t>(begin)] : nullptr);
    });
    for (std::vector<Seen>& inputs_of_batch : seen) {
      for (const Seen& input : inputs_of_batch) {
        observer(input.product, input.inputs);
      }
      inputs_of_batch.clear();
    }
  }
}

void Walk::observe(const Block& block, const Products& products, const Observe& observer) {
  each(block, products, observer, /*moves=*/false);
}

void Walk::observe(const Block& block, size_t batch, const Products& products,
                   const Observe& observer) {
  std::vector<Seen> seen;
  {
    const SingleThread one;
    pass(block, batches_[batch], v_first_[batch], products, /*moves=*/false, &seen);
  }
  for (const Seen& input : seen) {
    observer(input.product, input.inputs);
  }
}

void Walk::advance(const Block& block, const Observe& observer, const Products& products) {
  each(block, products, observer, /*moves=*/true);
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

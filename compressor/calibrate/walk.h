// Calibration tokens on their way through the model, one block in memory at a time. Between blocks
// the activations of all samples are held; a stage may observe what a block does with them and
// change the block before they move on. The same bits with any number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compressor/model/block.h"

namespace rwkv::press {

class Walk {
 public:
  /// `tokens` int64 [samples, length]; starts after the embedding. Activations lie on `device`,
  /// where the blocks must be too, and what observers see.
  static Result<Walk> begin(const TensorSource& source, const ModelConfig& config,
                            const at::Tensor& tokens, const at::Device& device = at::kCPU);

  /// Names of products of a block; none stands for all that it has.
  using Products = std::vector<std::string>;

  /// Shows the block's inputs of these products, batch after batch, from one thread; activations
  /// stay where they are. Computes nothing that these inputs do not depend on.
  void observe(const Block& block, const Products& products, const Observe& observer);
  /// The same for one batch: two models' activations can be compared batch by batch.
  void observe(const Block& block, size_t batch, const Products& products, const Observe& observer);
  size_t n_batches() const { return batches_.size(); }
  /// Moves all activations through the block; `observer`, which may be empty, sees the inputs of
  /// these products as with observe(). As many batches at a time as there are threads.
  void advance(const Block& block, const Observe& observer, const Products& products = {});
  /// The activations, [samples * length, n_embd].
  at::Tensor hidden() const;

 private:
  void each(const Block& block, const Products& products, const Observe& observer, bool moves);

  std::vector<at::Tensor> batches_;  ///< residual streams, [batch, length, n_embd]
  std::vector<at::Tensor> v_first_;  ///< v7's, of each batch
};

/// E[x x^T] of the inputs of some products of one block, summed up as they pass by; the same bits
/// with any number of threads.
class MomentSum {
 public:
  /// Adds the inputs [n, in].
  void add(const at::Tensor& inputs);
  /// The mean, [in, in] f32, on the inputs' device.
  at::Tensor mean() const;

 private:
  at::Tensor sum_;  // the lower triangle and some more
  int64_t n_ = 0;
};

}  // namespace rwkv::press

// How much a model's predictions depend on the output of each of its products: gradients over text,
// block by block, so that one block is in memory at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "formats/arch/model_config.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Gradients of sum ln p(token) at the outputs of the products, the token of each position drawn
/// from the model's own predictions. Then for small changes d of an output, by the definition of
/// Fisher's information, KL(model || changed) is about half the mean of (g d)^2: that of a single
/// draw is right on average, and a text has thousands of positions.
struct Sensitivity {
  /// By block and product ("att.key"): [positions, out], bf16.
  std::vector<std::map<std::string, at::Tensor>> products;
  /// At the input of the first block, [positions, n_embd], f32.
  at::Tensor embedding;
};

/// Of `tokens` int64 [samples, length]. Holds the activations between blocks of all of them. The
/// same bits with any number of threads.
Result<Sensitivity> measure_sensitivity(const TensorSource& source, const ModelConfig& config,
                                        const at::Tensor& tokens, uint64_t seed,
                                        const std::function<void(double share)>& progress);

/// What errors of the embedding's rows cost, as the moments of a product's inputs tell for the rows
/// of its matrix: E[g g^T], f32 [n_embd, n_embd], of the gradients g at the input of the first
/// block, with an even share that falls with the number of positions. The tenth of the positions
/// with the largest gradients counts as much as the one before it: a few positions at the beginning
/// of sequences have gradients that would outweigh all others. Of as many samples of `tokens`,
/// spread over all of them, as have embedding_positions() positions. The same bits with any number
/// of threads.
Result<at::Tensor> embedding_moments(const TensorSource& source, const ModelConfig& config,
                                     const at::Tensor& tokens, uint64_t seed,
                                     const std::function<void(double share)>& progress);
/// How many positions that takes of a text of so many tokens.
uint64_t embedding_positions(uint64_t n_embd, uint64_t tokens);

}  // namespace rwkv::press

// One step of the training of a predictor's small network, on all threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "compressor/numerics/adam.h"

namespace rwkv::press {

/// What the loss asks of each token and neuron.
struct MlpTargets {
  /// [n, F] bf16: 0 for negatives, else s^p in units of a mean share (mlp_predictor.h).
  at::Tensor weights;
  double balance = 1;  ///< what positives are multiplied with, so that both labels weigh the same
  double active = 0;   ///< share of positives
};

/// logits = fc2 relu(fc1 x), trained with Adam on weighted binary cross-entropy. Work is cut into
/// tiles of neurons, whose size does not depend on the number of threads, so nor does the result;
/// logits and errors of a tile stay in a processor's own cache.
class MlpTrainer {
 public:
  /// Starts from `fc1` [hidden, D] and `fc2` [F, hidden], f32 and contiguous, which every step
  /// changes. `inputs` [n, D] and `targets` of the same tokens must outlive it.
  MlpTrainer(at::Tensor fc1, at::Tensor fc2, const at::Tensor& inputs, const MlpTargets& targets);

  /// One step of Adam on `count` tokens, whose numbers are `tokens`. `rate` is that of fc2; `rate1`
  /// that of fc1.
  void step(const int64_t* tokens, int64_t count, double rate1, double rate);

  const at::Tensor& fc1() const { return fc1_; }
  const at::Tensor& fc2() const { return fc2_; }

 private:
  void weigh_errors(at::Tensor& sigmoids, const int64_t* tokens, int64_t first_neuron) const;
  void neurons(const int64_t* tokens, int64_t tile, double rate);
  void units(int64_t tile, double rate1);

  at::Tensor fc1_, fc2_;
  const at::Tensor& inputs_;
  const MlpTargets& targets_;
  std::vector<Adam> adam1_, adam2_;  ///< of each tile of hidden units, and of neurons
  uint64_t steps_ = 0;
  // Of the current step.
  at::Tensor x_, hidden_;
  std::vector<at::Tensor> back_;  ///< of each tile of neurons: what it asks of hidden_
};

}  // namespace rwkv::press

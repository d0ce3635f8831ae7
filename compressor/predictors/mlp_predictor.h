// The learned half of a predictor: a small two-layer network per channel_mix that scores its
// neurons. Thresholds on its scores are thresholds.h's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "formats/base/status.h"

namespace rwkv::press {

struct MlpOptions {
  int64_t hidden = 64;
  int64_t epochs = 20;
  int64_t batch = 128;          ///< tokens per step
  double learning_rate = 0.02;  ///< at the start; falls to 0 over the epochs by a cosine
  double importance = 0.75;     ///< the exponent p below, 0 for the paper's labels
  double load = 0;  ///< share of neurons named when epochs are compared; 0: that of active ones
  uint64_t seed = 1;
};

/// logits = fc2 relu(fc1 x), no biases, as P_MLP of RWKV-Lite (arXiv 2412.10856).
struct MlpPredictor {
  at::Tensor fc1;  ///< [hidden, D]
  at::Tensor fc2;  ///< [F, hidden]

  bool defined() const { return fc1.defined(); }
  /// [n, D] to logits [n, F].
  at::Tensor scores(const at::Tensor& x) const;
};

/// Trains on the inputs `x` [n, D] of a layer with `key` [F, D] and `value_norms` [F], ||V_j||.
///
/// Loss: binary cross-entropy with the labels k_j > 0. Negatives weigh 1; a positive weighs
///   (number of negatives / number of positives) * s^p / (mean of s^p over the positives),
/// s its share of the token's output energy relu(k_j)^4 ||V_j||^2. With p = 0 that is the paper's
/// loss; with p = 1 the logits would tend to order neurons by the energy that is lost without them,
/// but a few huge weights make training noisy.
///
/// Adam on minibatches, fc1 at sqrt(64 / D) times the learning rate: one step changes a hidden
/// number by the sum of D such changes, and without that a rate that suits D = 64 is too high for
/// D = 1024. Inputs are divided by the root mean square of their channel during training, which
/// fc1 absorbs. The last 10 % of the tokens are held out: what is returned are the weights of the
/// epoch that keeps most of their energy at a fixed load. The same arguments give the same result
/// with any number of threads (mlp_trainer.h). Uses two bytes per token and neuron; beyond
/// 2^28 tokens * neurons it trains on evenly chosen tokens.
///
/// Errors: usage_error for shapes that do not fit, fewer than 256 tokens or options out of range
/// (hidden in [1, 4 D]); bad_input for numbers that are not finite.
Result<MlpPredictor> train_mlp(const at::Tensor& x, const at::Tensor& key,
                               const at::Tensor& value_norms, const MlpOptions& options);

/// train_mlp of arguments that were checked, for callers that keep some of their tokens back: from
/// 10 tokens on.
MlpPredictor train_checked_mlp(const at::Tensor& x, const at::Tensor& key,
                               const at::Tensor& value_norms, const MlpOptions& options);

/// What train_mlp refuses of its options, for D channels.
Status check_mlp_options(const MlpOptions& options, int64_t channels);

}  // namespace rwkv::press

// How near a model's predictions are to a reference's, at one position of a text and on average.
#pragma once

#include <cstdint>
#include <span>

#include "compressor/evaluate/confidence.h"

namespace rwkv::press {

/// Of one position. The top-1 token is the one with the largest logit; of equal logits the smaller
/// id stands before the larger.
struct Comparison {
  double kl = 0.0;          ///< nats, see below
  bool is_top1 = false;     ///< the model's top-1 token is the reference's
  bool is_in_top5 = false;  ///< the reference's top-1 token is among the model's first five
};

/// `reference` and `model` are logits [n_vocab] before the same token. With p of the reference and
/// q of the model, softmaxes in double,
///   KL(p || q) = sum_i p_i (ln p_i - ln q_i)
/// Not finite if logits are not, or if the model rules out what the reference does not.
Comparison compare_logits(std::span<const float> reference, std::span<const float> model);

/// Over the predicted tokens of a text; standard errors by blocks (block_ratio.h).
struct Agreement {
  Estimate kl;    ///< mean KL(reference || model), nats per token
  Estimate top1;  ///< share of positions, 0 to 1
  Estimate top5;
};

}  // namespace rwkv::press

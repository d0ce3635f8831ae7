// One batch forwards and backwards.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressor/model/network.h"
#include "compressor/train/head_loss.h"

namespace rwkv::press {

struct Batch {
  at::Tensor inputs;   ///< int64 [sequences, length]
  at::Tensor targets;  ///< int64 [sequences * length]: each input's successor
  /// The teacher's, from a file; undefined if the teacher itself is asked.
  TopAnswers answers = {};

  Batch to(const at::Device& device) const;
};

struct LossOptions {
  HeadLossOptions head;
  /// Weight of the blocks' outputs: the mean over blocks of the squared distance to the teacher's
  /// output, as a share of that output's square, over the sequences of a pass (so that the way a
  /// batch is split into passes matters a little).
  double block_match = 0.0;
  /// Keep only the inputs of blocks and recompute each block in the backward pass: memory for the
  /// activations of one block instead of all, for a third more time.
  bool recompute = false;
  /// Tokens that follow this one weigh `answers_weight` instead of 1 in the gradients; -1: none.
  int64_t answers_after = -1;
  double answers_weight = 1.0;
};

/// Sums over a batch's tokens.
struct LossSums {
  double cross_entropy = 0.0;
  double divergence = 0.0;
  double block_match = 0.0;
  double total(const LossOptions& options) const {
    return (1.0 - options.head.distill) * cross_entropy + options.head.distill * divergence +
           options.block_match * block_match;
  }
  LossSums& operator+=(const LossSums& other);
};

/// Adds the gradients of scale * total to those of the student's parameters. `teacher` may be null
/// if the options need none; its n_embd must be the student's if block_match is above 0.
LossSums add_gradients(const Network& student, const Network* teacher, const Batch& batch,
                       const LossOptions& options, double scale);

/// Only the loss.
LossSums evaluate_loss(const Network& student, const Batch& batch, Precision precision);

/// The first place where the student's values are not finite: "block 3, time to time", the name of
/// a parameter, or that of its gradient. Empty if all are finite.
std::string find_not_finite(const Network& student, const Batch& batch);

}  // namespace rwkv::press

// How far a student's block is from its teacher's.
#pragma once

#include "compressor/model/block.h"

namespace rwkv::press {

/// What a block gives for some sequences.
struct BlockValues {
  at::Tensor x;        ///< [n, length, n_embd], the residual stream after it
  at::Tensor v_first;  ///< [n, length, dim_att], where the block sets it: the first one of v7
  BlockState state;

  BlockValues to(const at::Device& device) const;
};

/// Errors as shares: 0 is the teacher's block, 1 one that does nothing.
struct BlockErrors {
  double output = 0.0;
  double state = 0.0;
  BlockErrors& operator+=(const BlockErrors& other);
  BlockErrors operator/(double n) const { return {output / n, state / n}; }
};

struct BlockLoss {
  at::Tensor loss;  ///< output + state_weight * state, to differentiate
  BlockErrors errors;
};

/// How much the block changes the stream: the mean over tokens of |x - before|^2 / |x|^2. Errors of
/// outputs are measured by it. Later parts norm the stream, so tokens count alike whatever their
/// length.
double block_energy(const at::Tensor& x, const at::Tensor& before);

/// Output: the mean over tokens of |ours - theirs|^2 / |theirs|^2, over `energy`, and the same of
/// v_first, over 1, where there is one. State: the mean of the shares |ours - theirs|^2 /
/// |theirs|^2 of the recurrence's state, by sequence and head, and of the inputs handed on.
BlockLoss block_loss(const BlockValues& ours, const BlockValues& theirs, double energy,
                     double state_weight);

}  // namespace rwkv::press

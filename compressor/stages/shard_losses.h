// What a piece of a matrix at a narrower width costs, in nats of KL per token over the model at
// full width: estimated for all pieces at once, or measured piece by piece.
#pragma once

#include <vector>

#include "compressor/stages/work.h"

namespace rwkv::press {

/// Sets work.plan.shards' losses by estimates: with the change d of the outputs of the piece's
/// product and the gradients g there, half the mean of the sum of (g d)^2 (output_errors.h); of the
/// head the exact KL. One block is in memory at a time, and the gradients of all blocks.
Status estimate_shard_losses(Work& work);

/// The same, measured: the KL of the model with the one piece changed, over a part of the
/// calibration text. A run of the rest of the model for every piece and width.
Status measure_shard_losses(Work& work);

/// Random ones, to compare with: not of any use, and no nats.
void draw_shard_losses(Work& work);

/// The width of every piece of a matrix, by matrix: 0 full, 1 the first of the plan's widths.
using ShardChoice = std::vector<std::vector<uint32_t>>;
/// KL(full || chosen) over the same text, of the model with all pieces as chosen.
Result<double> measure_shard_choice(Work& work, const ShardChoice& choice);

}  // namespace rwkv::press

// Codes and scales of a tile: each group by itself, with errors fed forward, or improved in rounds.
#pragma once

#include "compressor/quantizers/input_moments.h"
#include "compressor/quantizers/weight_tile.h"

namespace rwkv::press {

/// Every value to its nearest code; the scale of a group for the least sum of squared errors, each
/// times its input's weight; `weights` f32 [inputs].
void round_groups(WeightTile& tile, const at::Tensor& weights);

/// GPTQ (arXiv 2210.17323): input by input, and each is to make up for the errors of the inputs
/// before it as far as their moments allow. The scale of a group is chosen when its first input is
/// reached. Columns of the triangle are read in blocks, so that the work is that of matrix
/// products.
void feed_errors(WeightTile& tile, const InputMoments::Triangle& triangle);

/// Lowers the error of the outputs, the sum of e moments e^T over the errors e of the tile's
/// outputs, in `rounds` rounds. A round first solves for all scales of an output at once, its codes
/// fixed (Along::Outputs: none, see below), then goes twice over the inputs: with all else fixed,
/// the best value of a weight is known, and it takes the nearest code. With Along::Outputs the
/// weights of one group have the same best value of the scale whatever the others are, so that
/// scale and codes of a group are chosen together. The error never grows, but for rounding.
void refine(WeightTile& tile, const at::Tensor& moments, int rounds);

}  // namespace rwkv::press

// The best scales of a tile whose codes are fixed.
#pragma once

#include "compressor/quantizers/weight_tile.h"

namespace rwkv::press {

/// For each output of a tile with Along::Inputs: the scales of all its groups that together give
/// the least e moments e^T, by least squares in double, then as integers times a new unit, which a
/// few steps of coordinate descent improve; free scales are rounded to half floats. An output for
/// which that is no better keeps what it has, and so do given scales.
void fit_scales(WeightTile& tile, const at::Tensor& moments);

}  // namespace rwkv::press

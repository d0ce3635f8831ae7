// The table of a lut matrix, learnt from its weights.
#pragma once

#include <ATen/core/Tensor.h>

#include "formats/codec/lut.h"

namespace rwkv::press {

/// The values of least squared error, each times the mean square of its input, for `weights` (f32
/// [rows, cols] as packed) in units of row scale * scale of `rounded`: one step of weighted
/// k-means, rounded to what a table holds. `squares`: f32 [inputs], > 0. The same with any number
/// of threads.
LutTable learn_table(const at::Tensor& weights, const at::Tensor& squares, bool inputs_are_rows,
                     const LutMatrix& rounded, const LutKind& kind);

}  // namespace rwkv::press

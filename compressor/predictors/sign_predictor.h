// The 1-bit half of a predictor: the key matrix of channel_mix with two numbers per row. How its
// bits are packed is a codec's matter, which thresholds its scores need is thresholds.h's.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkv::press {

/// `key` [F, D] with two levels per row: the mean of the numbers above the row's mean, and the mean
/// of the others. Both are f16 numbers, which is what a device stores: a bit per number and two
/// half floats per row. The score M x approximates k = K x.
///
/// Levels of the row, not of the matrix: P_quant of RWKV-Lite (arXiv 2412.10856) cuts the whole
/// matrix at the middle of its range, where a single outlier turns all bits into one.
///
/// Applied twice it changes nothing. Rows of one value keep that value. Levels beyond f16 saturate;
/// numbers that are not finite give rows that are not.
at::Tensor two_level(const at::Tensor& key);

/// The same bits, but per row the two levels u, v of the least squares problem
///   min over u, v: sum over tokens of (u * sum of x where the bit is 1 + v * sum elsewhere - k)^2
/// on the inputs x [n, D], with a small ridge. Rows where that is not better than
/// the levels of two_level after rounding to f16 (ill-conditioned ones among them) keep those.
at::Tensor two_level_fitted(const at::Tensor& key, const at::Tensor& x);

}  // namespace rwkv::press

// Some outputs of a product that stand for all. What rounding costs is a sum over outputs, which do
// not depend on one another: a sample tells it in a fraction of the time.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressor/calibrate/output_errors.h"

namespace rwkv::press {

struct SampledOutputs {
  at::Tensor outputs;  ///< int64, ascending; undefined: all of them
  /// The product with these outputs alone, f32. Gradients are larger by the root of what an output
  /// stands for, so that distances of these are, on average over samples, distances of all.
  ProductSeen seen;

  /// The rows of these outputs of a matrix [out, in].
  at::Tensor of(const at::Tensor& values) const;
};

/// About `n` outputs of the product of `w` [out, in], whole groups of `unit` neighbours; all if
/// there are no more. An output is taken the more probably the more an error in it is expected to
/// cost: by its gradients, and by its weights, of which errors are a share, times the squares of
/// the inputs. The same input gives the same sample.
SampledOutputs sample_outputs(const ProductSeen& seen, const at::Tensor& w, int64_t unit,
                              int64_t n);

}  // namespace rwkv::press

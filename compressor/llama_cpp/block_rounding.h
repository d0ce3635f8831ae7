// A matrix rounded into one of ggml's types: the same quantizer as for our own codecs, under what
// the blocks of the type can hold. Q4_0 and IQ4_NL have a half float as scale of 32 values; the
// scales of Q6_K and Q4_K are chosen first, and then only codes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "compressor/quantizers/output_groups.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// What is known about the inputs of a product.
struct InputStatistics {
  at::Tensor moments;  ///< E[x x^T], f32 [inputs, inputs]: errors are fed forward and refined
  at::Tensor squares;  ///< without moments: weights of squared errors, f32 [inputs]
  const OutputGroups* groups = nullptr;  ///< besides moments: outputs that have their own
};

struct RoundedMatrix {
  std::vector<std::byte> bytes;
  at::Tensor values;  ///< what they stand for, f32 [outputs, inputs]
};

/// `weights` f32 [outputs, inputs], contiguous; `type` is in block_types() and fits the rows.
/// Moments and squares may be undefined; types without scales, and Q8_0, do not use them. The same
/// bytes with any number of threads. BadInput for values that the type cannot hold.
Result<RoundedMatrix> round_to_type(const at::Tensor& weights, DType type,
                                    const InputStatistics& statistics);

}  // namespace rwkv::press

// Source tensors as LibTorch tensors, one at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Tensor `index` in its own shape as f32 on the CPU, owning its memory. Blocks are decoded.
Result<at::Tensor> load_f32(const TensorSource& source, size_t index);

/// Elements [first, first + n) of its contiguous form, flat, as f32. For block types both must be
/// multiples of the block.
Result<at::Tensor> load_f32_range(const TensorSource& source, size_t index, uint64_t first,
                                  uint64_t n);

}  // namespace rwkv::press

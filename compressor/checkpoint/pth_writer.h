// Writes a checkpoint that torch.load(..., weights_only=True) of torch 1.13 and later reads: the
// zip form, an OrderedDict of plain tensors on the CPU.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// `read_tensor` fills its argument with the contiguous row-major bytes of tensor `index`; it is
/// called once per tensor, in order, and one tensor is in memory at a time. Plain dtypes only.
/// The same tensors give the same bytes. On failure nothing is left at `path`.
Status write_pth(
    const std::string& path, OutputFile::Existing existing, std::span<const TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor);

}  // namespace rwkv::press

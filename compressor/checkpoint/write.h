// Writes checkpoints, in the format that the name of the file selects.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Usage unless `path` ends in .pth, .safetensors or .st.
Status check_checkpoint_name(const std::string& path);

/// Calls write_pth() or write_safetensors() under their contracts; refuses other names.
Status write_checkpoint(
    const std::string& path, OutputFile::Existing existing, std::span<const TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor);

/// Replaces `out` by `values` as a plain float type, rounded to nearest.
void encode_from_f32(DType dtype, std::span<const float> values, std::vector<std::byte>& out);

/// Tensor `index` of `source` as `dtype` (f32, bf16 or f16).
Status read_as(const TensorSource& source, size_t index, DType dtype, std::vector<std::byte>& out);

}  // namespace rwkv::press

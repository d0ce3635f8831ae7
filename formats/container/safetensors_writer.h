// Writes safetensors files, one tensor in memory at a time.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/container/tensor_source.h"

namespace rwkv {

/// The header of such a file as written, with the length in front of it and padded; errors as in
/// write_safetensors().
Result<std::string> safetensors_header(std::span<const TensorInfo> tensors);

/// Writes `tensors` in the given order; `read_tensor` is called once for each, in that order, and
/// replaces `out` by exactly n_bytes() bytes. The same input gives the same bytes. Names must be
/// unique printable ASCII, dtypes plain (no Q formats). Nothing is left at `path` on failure.
Status write_safetensors(
    const std::string& path, OutputFile::Existing existing, std::span<const TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor);

}  // namespace rwkv

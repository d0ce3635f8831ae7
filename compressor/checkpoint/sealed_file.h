// Safetensors files that end in the XXH64 of all bytes before it, header included: what one run
// leaves for a later one, which must notice every byte that has changed meanwhile. Against
// accidents only; who edits a file can compute its checksum.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// As write_safetensors(), with the checksum as one more tensor at the end.
Status write_sealed(
    const std::string& path, OutputFile::Existing existing, std::vector<TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor);

/// Reads the whole file once to compare its checksum, then opens it. BadInput if a byte differs,
/// the file is cut, or it was not written by write_sealed().
Result<std::unique_ptr<TensorSource>> open_sealed(const std::string& path);

}  // namespace rwkv::press

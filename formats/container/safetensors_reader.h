// Checkpoints in the safetensors format (.safetensors, .st). Everything about the header is checked
// when the file is opened; tensor data is read only on request.
#pragma once

#include <memory>
#include <string>

#include "formats/container/tensor_source.h"

namespace rwkv {

/// Opens `path`. Tensors are listed in the order of their data, metadata() is `__metadata__`.
Result<std::unique_ptr<TensorSource>> open_safetensors(const std::string& path);

}  // namespace rwkv

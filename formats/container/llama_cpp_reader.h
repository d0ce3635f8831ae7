// Checkpoints in GGUF files made for llama.cpp (general.architecture rwkv6 or rwkv7). Names and
// changed values are undone by llama_cpp_names.cpp. Our own packed files are GGUF too, but of
// another architecture; they are not checkpoints.
#pragma once

#include <memory>
#include <string>

#include "formats/container/tensor_source.h"

namespace rwkv {

/// Opens `path` and presents BlinkDL's names, shapes and values, in file order. Tensors that the
/// converter left alone keep their dtype and bytes; the others are F32. metadata() has the file's
/// keys with their values as text.
Result<std::unique_ptr<TensorSource>> open_llama_cpp_gguf(const std::string& path);

}  // namespace rwkv

// Checkpoints in rwkv.cpp's own format (.bin, magic "ggmf"). Layout: docs/FILE_FORMAT.md of
// https://github.com/RWKV/rwkv.cpp. What its converter changed is undone by rwkv_cpp_names.cpp.
#pragma once

#include <memory>
#include <string>

#include "formats/container/tensor_source.h"

namespace rwkv {

/// Opens `path` and presents BlinkDL's names, shapes and values, in file order. Tensors that the
/// converter left alone keep their dtype and bytes; the others are F32.
Result<std::unique_ptr<TensorSource>> open_rwkv_cpp(const std::string& path);

}  // namespace rwkv

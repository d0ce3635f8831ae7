// A checkpoint whose names, shapes or values differ from BlinkDL's (rwkv.cpp's .bin, llama.cpp's
// GGUF). A list says where each tensor lies and what to undo when it is read. The readers make the
// list; this file applies it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/file.h"
#include "formats/container/tensor_source.h"

namespace rwkv {

/// The change that a converter made to a tensor, and that reading undoes; x is the stored value.
enum class Undo {
  Nothing,      ///< the stored bytes are the tensor
  Transpose,    ///< the last two dimensions were swapped
  LogMinusLog,  ///< stored exp(-exp(raw)): raw = log(-log(x))
  Log,          ///< stored exp(raw): raw = log(x)
  LogMinus,     ///< stored -exp(raw): raw = log(-x)
  Scale,        ///< stored raw / factor: raw = x * factor
};

struct AdaptedTensor {
  TensorInfo info;  ///< as presented; its dtype is set by open_adapted
  DType stored = DType::F32;
  uint64_t offset = 0;  ///< of the stored bytes, from the start of the file
  Undo undo = Undo::Nothing;
  float factor = 1.0f;  ///< for Scale
};

/// Checks sizes, ranges within `file` and that names are unique. A tensor with nothing to undo is
/// presented in its stored dtype, all others as F32 (computed in double). `format` is a literal.
Result<std::unique_ptr<TensorSource>> open_adapted(std::string_view format,
                                                   std::shared_ptr<InputFile> file,
                                                   std::vector<AdaptedTensor> tensors,
                                                   std::map<std::string, std::string> metadata);

}  // namespace rwkv

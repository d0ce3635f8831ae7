// A packed file read back as a checkpoint: values decoded, matrices transposed back, shapes and
// types as in the source. Tensors packed in f32 come out bit for bit. Every tensor is also
// available as codes, so that packing it in the same form again changes nothing.
#pragma once

#include <memory>
#include <string>

#include "formats/base/file.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// `file` was parsed from `input`.
Result<std::unique_ptr<TensorSource>> open_packed(std::shared_ptr<InputFile> input,
                                                  const GgufFile& file);

}  // namespace rwkv::press

// A packed file read back as a checkpoint: numbers decoded, matrices turned back, shapes and types
// as the source had them. What was packed in f32 comes out bit for bit.
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

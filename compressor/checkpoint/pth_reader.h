// Opens PyTorch checkpoints without PyTorch. Nothing in the file is executed, every number in it is
// checked before it is used, and tensor data is read only on request.
#pragma once

#include <memory>
#include <string>

#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Opens a file that torch.save wrote. The first bytes decide between the zip form of torch 1.6 and
/// later and the older form. Strided, shared and expanded tensors come out contiguous. The source
/// may be read from several threads.
Result<std::unique_ptr<TensorSource>> open_pth(const std::string& path);

}  // namespace rwkv::press

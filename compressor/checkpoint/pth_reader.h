// Opens PyTorch checkpoints without PyTorch. Nothing in the file is executed, no number in it is
// believed before it is checked, and tensor data is read only when it is asked for.
#pragma once

#include <memory>
#include <string>

#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Opens what torch.save wrote: the zip form of torch 1.6 and later, or the older form, whichever
/// the first bytes show. Strided, shared and expanded tensors come out contiguous. The source may
/// be read from several threads.
Result<std::unique_ptr<TensorSource>> open_pth(const std::string& path);

}  // namespace rwkv::press

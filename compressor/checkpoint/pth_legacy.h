// The form of torch before 1.6, and of torch.save(..., _use_new_zipfile_serialization=False): five
// consecutive pickles (magic number, protocol version, system, the object, the order of
// the storages), then the storages, each an int64 count and its elements.
#pragma once

#include <memory>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Use open_pth(), which decides between the forms. There are no checksums in this one.
Result<std::unique_ptr<TensorSource>> open_legacy_pth(std::shared_ptr<InputFile> file);

}  // namespace rwkv::press

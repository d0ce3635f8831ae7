// A checkpoint in several files, shown as one.
#pragma once

#include <memory>
#include <vector>

#include "compressor/checkpoint/checkpoint_files.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// `parts` are the open files of `files`, in the same order and at least one. BadInput if a tensor
/// is in two parts, or if parts and index do not agree.
Result<std::unique_ptr<TensorSource>> join_parts(std::vector<std::unique_ptr<TensorSource>> parts,
                                                 const CheckpointFiles& files);

}  // namespace rwkv::press

// What lies where an RWKV checkpoint should be: files that are none, told by their first bytes, and
// checkpoints of something else, told by the names of their tensors. One list of each.
#pragma once

#include <optional>
#include <string>

#include "formats/base/file.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// The refusal of a file that is no checkpoint of any format: BadInput that says what was found and
/// what to do.
Status not_a_checkpoint(const InputFile& file);

/// "holds X; expected Y; do Z" for tensors that are known and no RWKV checkpoint of v4 to v7;
/// nullopt for others.
std::optional<std::string> other_model(const TensorSource& source);

}  // namespace rwkv::press

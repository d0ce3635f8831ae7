// A checkpoint with the names of another program, read under BlinkDL's (plain_names.h): the bytes
// are those that the plainly named checkpoint has.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/arch/plain_names.h"
#include "formats/container/tensor_source.h"

namespace rwkv {

/// Takes `base`; `names` were found from its tensors. `extra` is added to its metadata.
std::unique_ptr<TensorSource> make_plain_source(std::unique_ptr<TensorSource> base,
                                                PlainNames names,
                                                std::map<std::string, std::string> extra);

}  // namespace rwkv

// The model of a recipe as the codes in which it will be packed, to be trained.
#pragma once

#include <span>
#include <string_view>

#include "compressor/stages/work.h"
#include "compressor/train/coded_weights.h"

namespace rwkv::press {

/// Every matrix of the network that the plan packs in another codec than f32, and a clustered head
/// in any, with the codes that it has in the source, or else rounded to nearest, as the packer
/// would. Of those, the ones whose names begin with `prefix`.
Result<CodedWeights> coded_weights_of(const Work& work, TrainCodes what,
                                      std::string_view prefix = "");

/// Puts the trained codes of a tensor into the source; the packer copies them. BadInput if they are
/// not of its size.
Status put_codes(Work& work, std::span<const std::byte> codes, const std::string& name);

}  // namespace rwkv::press

// Values that a tensor of a model may not hold. One not-a-number spoils every text, and often shows
// only as an empty answer, so it is refused where weights are packed and found by inspect --verify.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/base/status.h"
#include "formats/codec/codec.h"

namespace rwkv {

/// BadInput for the first value that is not a number or infinite, with the tensor's name, row,
/// column and what to do. Decays and bonuses of time_mix may be infinite: they are logarithms, and
/// rwkv.cpp's files hold the logarithm of 0. `values` are whole rows of `cols`, from `first_row`
/// on.
Status check_values(std::string_view tensor, std::span<const float> values, uint64_t cols,
                    uint64_t first_row = 0);

/// The same for a matrix in a codec, decoded some rows at a time. Rows are those of the codec.
Status check_values(std::string_view tensor, const MatrixView& w);

}  // namespace rwkv

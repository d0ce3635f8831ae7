// Which matrices get narrower copies of their rows, in which codecs, and how their rows are cut.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/stages/plan.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Sets plan.shards: every matrix that a token reads all rows of and that is in a lossy codec, as
/// far as one of `widths` (names of codecs, widest first; "none" may be the last) is narrower than
/// its own; all pieces at all widths, with losses of 0. `piece_bytes` at full width; 0: 1/256 of
/// all that is cut, within bounds, as a device would cut it. Usage if a width is narrower than no
/// matrix, or there is no matrix at all.
Status plan_shards(const std::vector<std::string>& widths, uint64_t piece_bytes, PackPlan& plan);

/// Bytes of a piece of a matrix at a width: the units of its rows. 0 where it is left out.
uint64_t piece_bytes(Codec codec, const RowRange& rows, uint64_t cols);
/// The dimension of a matrix [out, in] of the checkpoint that the rows of a packed file are.
int64_t row_dimension(const TensorBinding& binding);

}  // namespace rwkv::press

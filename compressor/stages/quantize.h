// Stage `quantize`: chooses the codec of each matrix.
#pragma once

#include <cstdint>
#include <memory>

#include "compressor/stages/stage.h"
#include "formats/codec/codec.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_quantize_stage();

/// What `codec` becomes for a matrix of so many columns as packed: lut codecs have scales for
/// groups of columns, and matrices that end within a group stay in int8.
Codec codec_for_columns(Codec codec, uint64_t packed_cols);

}  // namespace rwkv::press

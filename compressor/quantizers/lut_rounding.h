// Scales and codes of lut matrices by least squared error, on all threads: rounding to nearest, and
// what quantizers begin with.
#pragma once

#include <span>

#include "formats/codec/lut.h"

namespace rwkv::press {

/// Of finite values, [rows][cols]; each column weighted with `weights`, if there are any. The table
/// is lut_table(). The same with any number of threads.
LutMatrix round_to_lut(std::span<const float> values, const LutKind& kind, uint64_t rows,
                       uint64_t cols, std::span<const float> weights = {});

/// CodecTraits::encode, with the same bytes and errors; lut codecs on all threads.
Status encode_on_threads(Codec codec, std::span<const float> values, const MatrixShape& shape,
                         std::span<std::byte> out);

}  // namespace rwkv::press

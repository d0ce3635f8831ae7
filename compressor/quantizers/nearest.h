// Rounding to nearest, as in the codec's own encode(). With lut codecs it chooses scales too, by
// least squared error: what is called rtn beside other quantizers.
#pragma once

#include <memory>

#include "compressor/quantizers/quantizer.h"

namespace rwkv::press {

std::unique_ptr<Quantizer> make_nearest_quantizer();

}  // namespace rwkv::press

// Rounding to nearest, as in the codec's own encode().
#pragma once

#include <memory>

#include "compressor/quantizers/quantizer.h"

namespace rwkv::press {

std::unique_ptr<Quantizer> make_nearest_quantizer();

}  // namespace rwkv::press

// Rounding to nearest: what the codec's own encode() does.
#pragma once

#include <memory>

#include "compressor/quantizers/quantizer.h"

namespace rwkv::press {

std::unique_ptr<Quantizer> make_nearest_quantizer();

}  // namespace rwkv::press

// Stage `quantize`: chooses the codec of each matrix.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_quantize_stage();

}  // namespace rwkv::press

// Stage `shards`: narrower copies of the rows of matrices, for devices that stream them.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_shards_stage();

}  // namespace rwkv::press

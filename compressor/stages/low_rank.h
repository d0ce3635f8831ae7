// Stage `low_rank`: dense projections become factor pairs.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_low_rank_stage();

}  // namespace rwkv::press

// Stage `external`: the model through a program of the user's own.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_external_stage();

}  // namespace rwkv::press

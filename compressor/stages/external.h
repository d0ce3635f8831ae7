// Stage `external`: runs the user's own program on the model.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_external_stage();

}  // namespace rwkv::press

// Stage `refit`: factor pairs fitted again to the outputs of the original model on the text.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_refit_stage();

}  // namespace rwkv::press

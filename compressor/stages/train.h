// Stage `train`: continual training or distillation of the model in its current state.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_train_stage();

}  // namespace rwkv::press

// Stage `ffn_predictor`: predictors of which neurons of channel_mix a token needs.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_ffn_predictor_stage();

}  // namespace rwkv::press

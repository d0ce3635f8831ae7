// Stage `cluster_head`: the rows of the head in clusters, and a small matrix that predicts which
// clusters a token needs.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_cluster_head_stage();

}  // namespace rwkv::press

// Stage `cluster_head`: the head's rows in clusters, and a small matrix that tells which are
// needed.
#pragma once

#include <memory>

#include "compressor/stages/stage.h"

namespace rwkv::press {

std::unique_ptr<Stage> make_cluster_head_stage();

}  // namespace rwkv::press

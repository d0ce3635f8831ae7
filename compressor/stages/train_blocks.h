// The part of the stage `train` that goes block by block.
#pragma once

#include "compressor/stages/work.h"
#include "compressor/train/block_options.h"
#include "compressor/train/coded_tensor.h"
#include "compressor/train/options.h"
#include "compressor/train/progress.h"

namespace rwkv::press {

/// Trains the blocks of `work` in `folder`, and puts what was trained into it. False: this run has
/// done its part of the blocks, and others are missing or the model is not to be finished here.
Result<bool> train_blocks_of(Work& work, const TrainOptions& options, const BlockOptions& blocks,
                             TrainCodes codes, const std::string& folder, TrainProgress& progress);

}  // namespace rwkv::press

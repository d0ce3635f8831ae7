// Whether a training's teacher suits its student.
#pragma once

#include "compressor/train/trainer.h"

namespace rwkv::press {

/// Usage if the loss needs a teacher and there is none, or one of another vocabulary; for
/// block_match, of another shape.
Status check_teacher(const TrainJob& job);

}  // namespace rwkv::press

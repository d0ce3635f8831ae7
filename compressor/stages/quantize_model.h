// Codes for a whole model from a quantizer: block after block, each seeing the activations that the
// quantized blocks before it give.
#pragma once

#include "compressor/quantizers/quantizer.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

/// Puts codes into work.source for every matrix that work.plan gives a lossy codec; the others are
/// left to the packer. Moments are those of work.calibration, if the quantizer learns. One block
/// and one matrix are in memory at a time. Reports the mean error.
Status quantize_model(Work& work, const Quantizer& quantizer);

}  // namespace rwkv::press

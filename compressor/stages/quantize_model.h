// Codes for a whole model from a quantizer: block by block, with the activations that the quantized
// blocks before it produce.
#pragma once

#include "compressor/quantizers/quantizer.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

/// Puts codes into work.source for every matrix with a lossy codec in work.plan; the packer handles
/// the others. Moments are those of work.calibration, if the quantizer learns. One block and one
/// matrix are in memory at a time. Reports the mean error.
Status quantize_model(Work& work, const Quantizer& quantizer);

}  // namespace rwkv::press

// Codes for a whole model from quantizers: block by block, with the activations that the quantized
// blocks before it produce, or with those of the original model.
#pragma once

#include <map>
#include <string>

#include "compressor/quantizers/quantizer.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

struct ModelQuantizing {
  const Quantizer& quantizer;  ///< of all matrices but
  /// those of these names.
  std::map<std::string, const Quantizer*> own = {};
  /// Whether moments are those after the quantized blocks before a block; else those of the model
  /// as it was, from work.calibration's statistics file if there is one: BadInput if the file lacks
  /// one that is needed. Without text, none.
  bool sequential = true;
  uint64_t head_groups = 0;  ///< OutputGroups::count_for
};

/// Whether all that is known are mean squares of inputs, an imatrix: no stage can run the model on
/// a text, and only quantizers that use the diagonal of the moments learn from them.
bool has_only_squares(const Calibration& calibration);

/// Puts codes into work.source for every matrix with a lossy codec in work.plan; the packer handles
/// the others. Where a quantizer has no codec for its codes (Quantizer::stored_as), their values go
/// there, and that codec into work.plan. Moments are those of work.calibration, if the quantizer
/// learns. One block and one matrix are in memory at a time. Reports the mean error.
Status quantize_model(Work& work, const ModelQuantizing& how);
Status quantize_model(Work& work, const Quantizer& quantizer);

}  // namespace rwkv::press

// What the result of a conversion depends on besides its stages, by checksums of contents and not
// by names of files: for stages that are kept to go on later.
#pragma once

#include <cxxopts.hpp>
#include <optional>

#include "compressor/calibrate/calibration.h"
#include "compressor/pipeline/kept_stages.h"
#include "compressor/stages/work.h"
#include "compressor/tools/commands.h"

namespace rwkv::press {

struct ConversionInputs {
  const std::string& path;  ///< of the checkpoint
  const PlannedInput& input;
  const MergeRequest& merge;
  const Recipe& recipe;
  const std::optional<Calibration>& calibration;
  const std::string& statistics;  ///< their file; empty: none
  const Work::Training& training;
};
/// Reads the checkpoint, adapters and texts of a training once. Errors as those of reading.
Result<ConversionIdentity> conversion_identity(const ConversionInputs& inputs);

}  // namespace rwkv::press

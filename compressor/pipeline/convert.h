// A conversion from end to end: a checkpoint through the stages of a recipe into a packed file.
#pragma once

#include <map>
#include <string>

#include "compressor/pipeline/pack.h"
#include "compressor/pipeline/pipeline.h"

namespace rwkv::press {

struct Converted {
  PackPlan plan;                                ///< what was packed
  std::map<std::string, double> output_errors;  ///< Work::errors
};

/// run_stages() and pack(); `pipeline.progress` is called for packing too. The same arguments give
/// the same bytes; on failure there is no file, but finished stages are kept where
/// `pipeline.kept` says so, until the end. No file either where `pipeline.training.shard` asks for
/// a part of the work only.
Result<Converted> convert_checkpoint(const Recipe& recipe, const TensorSource& source,
                                     const Identified& model, const PipelineOptions& pipeline,
                                     PackOptions pack_options);

}  // namespace rwkv::press

// A conversion from end to end: a checkpoint through the stages of a recipe into a packed file.
#pragma once

#include "compressor/pipeline/pack.h"
#include "compressor/pipeline/pipeline.h"

namespace rwkv::press {

/// run_stages() and pack(); `pipeline.progress` is called for packing too. Returns what was packed.
/// The same arguments give the same bytes; on failure there is no file, and
/// none where `pipeline.training.shard` asks for a part of the work only.
Result<PackPlan> convert_checkpoint(const Recipe& recipe, const TensorSource& source,
                                    const Identified& model, const PipelineOptions& pipeline,
                                    PackOptions pack_options);

}  // namespace rwkv::press

#include "compressor/pipeline/convert.h"

#include <algorithm>

namespace rwkv::press {

Result<PackPlan> convert_checkpoint(const Recipe& recipe, const TensorSource& source,
                                    const Identified& model, const PipelineOptions& pipeline,
                                    PackOptions pack_options) {
  RWKV_ASSIGN(const Work work, run_stages(recipe, source, model, pipeline));
  if (work.ends_here) {
    return work.plan;
  }
  const auto all = static_cast<double>(std::max<uint64_t>(1, work.plan.n_numbers()));
  pack_options.progress = [&](uint64_t done) {
    pipeline.progress("packing", static_cast<double>(done) / all);
  };
  RWKV_TRY(pack(*work.source, work.plan, recipe, pack_options));
  return work.plan;
}

}  // namespace rwkv::press

#include "compressor/pipeline/convert.h"

#include <algorithm>

namespace rwkv::press {

Result<Converted> convert_checkpoint(const Recipe& recipe, const TensorSource& source,
                                     const Identified& model, const PipelineOptions& pipeline,
                                     PackOptions pack_options) {
  RWKV_ASSIGN(const Work work, run_stages(recipe, source, model, pipeline));
  if (work.ends_here) {
    return Converted{work.plan, work.errors};
  }
  const auto all = static_cast<double>(std::max<uint64_t>(1, work.plan.n_numbers()));
  pack_options.progress = [&](uint64_t done) {
    pipeline.progress("packing", static_cast<double>(done) / all);
  };
  const size_t n = recipe.stages.size() + 1;
  pipeline.on_stage(n - 1, n, "pack", /*ends=*/false);
  RWKV_TRY(pack(*work.source, work.plan, recipe, pack_options));
  pipeline.on_stage(n - 1, n, "pack", /*ends=*/true);
  if (pipeline.kept != nullptr) {
    pipeline.kept->remove();
  }
  return Converted{work.plan, work.errors};
}

}  // namespace rwkv::press

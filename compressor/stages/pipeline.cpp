#include "compressor/stages/pipeline.h"

#include <algorithm>

namespace rwkv::press {

bool needs_calibration(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(),
                     [](const auto& stage) { return stage->needs_calibration(); });
}

bool trains(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(),
                     [](const auto& stage) { return stage->trains(); });
}

Result<PackPlan> plan_stages(const Recipe& recipe, const Identified& model) {
  if (recipe.budget) {
    return usage_error("recipe {} has a budget and no stages yet; it has to be planned first",
                       recipe.name);
  }
  PackPlan plan = plan_for(model);
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    RWKV_TRY(stage->plan(plan));
  }
  return plan;
}

Result<Work> run_stages(const Recipe& recipe, const TensorSource& source, const Identified& model,
                        const PipelineOptions& options) {
  Work work{.original = source, .original_model = model};
  RWKV_ASSIGN(work.source, EditedSource::create(source, options.scratch_folder));
  work.plan = plan_for(model);
  work.calibration = options.calibration;
  work.seed = recipe.seed;
  work.training = options.training;
  work.progress = options.progress;
  work.report = options.report;
  if (needs_calibration(recipe) && !work.calibration) {
    return usage_error("recipe {} learns from text, and there is none", recipe.name);
  }
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    RWKV_TRY(stage->run(work).in(std::string("stage ") + stage->name()));
  }
  for (PlannedTensor& tensor : work.plan.tensors) {
    RWKV_ASSIGN(tensor.binding.source, work.source->index_of(tensor.binding.name));
  }
  return work;
}

}  // namespace rwkv::press

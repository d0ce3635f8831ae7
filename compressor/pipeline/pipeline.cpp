#include "compressor/pipeline/pipeline.h"

#include <algorithm>

#include "compressor/stages/packed_form.h"
#include "compressor/stages/quantize_model.h"

namespace rwkv::press {

Result<PackPlan> plan_stages(const Recipe& recipe, const Identified& model) {
  if (recipe.budget) {
    return usage_error("recipe {} has a budget and no stages yet; plan it first", recipe.name);
  }
  if (model.config.version == Version::V7a && (needs_calibration(recipe) || trains(recipe))) {
    return usage_error(
        "recipe {} learns from text, and v7a (DeepEmbed) cannot yet: its channel_mix depends on "
        "the "
        "token; expected a recipe that only quantises, such as fp16 or int8",
        recipe.name);
  }
  PackPlan plan = plan_for(model);
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    RWKV_TRY(stage->plan(plan));
  }
  return plan;
}

std::vector<std::string> rounded_again(const Recipe& recipe, const TensorSource& source,
                                       const PackPlan& plan) {
  const bool changes_values = std::any_of(recipe.stages.begin(), recipe.stages.end(),
                                          [](const auto& stage) { return stage->rounds_again(); });
  std::vector<std::string> names;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const std::optional<EncodedForm> form = encoded_form(source, i);
    const bool is_rounded = form ? codec_traits(form->codec).is_lossy : source.is_quantized(i);
    if (!is_rounded) {
      continue;
    }
    const TensorInfo& info = source.tensors()[i];
    const PlannedTensor* planned = plan.find(info.name);
    const bool changes_rows = planned != nullptr && planned->binding.role == Role::Head &&
                              plan.config.n_cluster > 0 && form && !has_movable_rows(*form);
    const bool is_kept = planned != nullptr && form && !changes_values && !changes_rows &&
                         is_in_form(source, i, *planned, plan.config);
    // Blocks are decoded to f32; a packed tensor is, unless its checkpoint had fewer bits.
    const bool is_decoded =
        planned != nullptr && planned->codec == Codec::F32 && (!form || info.dtype == DType::F32);
    if (!is_kept && !is_decoded) {
      names.push_back(info.name);
    }
  }
  return names;
}

Result<Work> begin_work(const TensorSource& source, const Identified& model, uint64_t seed,
                        const PipelineOptions& options) {
  WorkContext context{.original = source,
                      .original_model = model,
                      .calibration = options.calibration,
                      .seed = seed,
                      .training = options.training,
                      .allow_external = options.allow_external,
                      .shared_folder = options.shared_folder,
                      .progress = options.progress,
                      .rewrites_progress = options.rewrites_progress,
                      .report = options.report,
                      .warn = options.warn};
  if (options.kept == nullptr) {
    return Work::begin(std::move(context), source, plan_for(model), options.scratch_folder);
  }
  Work work = Work::begin(std::move(context), source, plan_for(model), options.kept->take_data());
  RWKV_TRY(options.kept->restore(work));
  return work;
}

Result<Work> branch(const Work& work, const std::string& scratch_folder) {
  RWKV_ASSIGN(Work own, Work::begin(work, *work.source, work.plan, scratch_folder));
  own.hidden = work.hidden;
  return own;
}

Status run_stage(const Stage& stage, Work& work) {
  if (stage.needs_calibration() && !work.calibration) {
    return usage_error("stage {} learns from text, but there is none", stage.name());
  }
  if (!stage.command().empty() && !work.allow_external) {
    return usage_error("stage {} runs a command of the recipe, which nobody has allowed",
                       stage.name());
  }
  return stage.run(work).in(std::string("stage ") + stage.name());
}

Status end_work(Work& work) {
  for (PlannedTensor& tensor : work.plan.tensors) {
    RWKV_ASSIGN(tensor.binding.source, work.source->index_of(tensor.binding.name));
  }
  return {};
}

namespace {

// Only quantizers can: all other stages that learn run the model on a text.
Status check_learns_from_squares(const Recipe& recipe) {
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    if (stage->needs_calibration() && std::string_view(stage->name()) != "quantize") {
      return usage_error(
          "an imatrix has only the mean squares of inputs, from which stage {} of recipe {} cannot "
          "learn; give a text with --calibration",
          stage->name(), recipe.name);
    }
  }
  return {};
}

}  // namespace

Result<Work> run_stages(const Recipe& recipe, const TensorSource& source, const Identified& model,
                        const PipelineOptions& options) {
  if (needs_calibration(recipe) && !options.calibration) {
    return usage_error("recipe {} learns from text, but there is none", recipe.name);
  }
  if (options.calibration && has_only_squares(*options.calibration)) {
    RWKV_TRY(check_learns_from_squares(recipe));
  }
  RWKV_ASSIGN(Work work, begin_work(source, model, recipe.seed, options));
  const size_t n = recipe.stages.size() + 1;
  for (size_t i = options.kept != nullptr ? options.kept->done() : 0; i + 1 < n; ++i) {
    const Stage& stage = *recipe.stages[i];
    options.on_stage(i, n, stage.name(), /*ends=*/false);
    RWKV_TRY(run_stage(stage, work));
    if (work.ends_here) {
      return work;
    }
    if (options.kept != nullptr) {
      RWKV_TRY(options.kept->keep(i + 1, work));
    }
    options.on_stage(i, n, stage.name(), /*ends=*/true);
  }
  RWKV_TRY(end_work(work));
  return work;
}

}  // namespace rwkv::press

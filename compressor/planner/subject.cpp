#include "compressor/planner/subject.h"

#include <filesystem>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/pipeline/pipeline.h"

namespace rwkv::press {
namespace {

constexpr const char* kScratchName = "/.rwkv-press-plan.gguf";
constexpr const char* kDenseName = "/.rwkv-press-plan-dense.gguf";

Result<Recipe> recipe_of(const PlanSubject& subject, const Choice& choice) {
  return parse_recipe(recipe_yaml(choice, subject.matrices, subject.frame), subject.frame.name, {});
}

Result<Work> run_choice(const PlanSubject& subject, const Recipe& recipe) {
  PipelineOptions options;
  options.calibration = subject.calibration;
  options.scratch_folder = subject.scratch_folder;
  options.shared_folder = subject.shared_folder;
  return run_stages(recipe, subject.source, subject.model, options);
}

Status write(const PlanSubject& subject, const Recipe& recipe, const Work& work,
             const std::string& path) {
  PackOptions options = pack_options_of(subject);
  options.output = path;
  options.existing = OutputFile::Existing::Replace;
  return pack(*work.source, work.plan, recipe, options);
}

}  // namespace

Result<at::Tensor> held_out_samples(const CalibrationOptions& options, uint64_t samples,
                                    const std::optional<Vocabulary>& vocabulary,
                                    const ModelConfig& config) {
  // The first picks of a larger sample are those of the smaller one, both in the text's order.
  RWKV_ASSIGN(const Calibration taken, sample_texts(options, vocabulary, config));
  CalibrationOptions both = options;
  both.samples += samples;
  RWKV_ASSIGN(const Calibration all, sample_texts(both, vocabulary, config));
  std::vector<at::Tensor> left;
  int64_t next = 0;
  for (int64_t i = 0; i < all.tokens.size(0); ++i) {
    if (next < taken.tokens.size(0) && at::equal(all.tokens[i], taken.tokens[next])) {
      ++next;
    } else {
      left.push_back(all.tokens[i]);
    }
  }
  return at::stack(left, 0);
}

PackOptions pack_options_of(const PlanSubject& subject) {
  PackOptions options;
  options.model_name = subject.frame.name;
  options.tool_version = subject.tool_version;
  options.vocabulary = subject.vocabulary;
  return options;
}

Result<PackedChoice> pack_choice(const PlanSubject& subject, const Choice& choice,
                                 const std::string& path) {
  RWKV_ASSIGN(const Recipe recipe, recipe_of(subject, choice));
  RWKV_ASSIGN(const Work work, run_choice(subject, recipe));
  RWKV_TRY(write(subject, recipe, work, path));
  return PackedChoice{work.plan, path};
}

Choice lossless_choice(const PlanSubject& subject) {
  const Codec finest = subject.ladder.finest();
  return dense_choice(subject.matrices.size(), finest, finest);
}

Result<PackedChoice> pack_dense(const PlanSubject& subject) {
  const Choice choice = lossless_choice(subject);
  const std::string path = subject.scratch_folder + kDenseName;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return pack_choice(subject, choice, path);
  }
  RWKV_ASSIGN(PackPlan plan, pack_plan_of(subject, choice));
  return PackedChoice{std::move(plan), path};
}

Status pack_with_p_min(const PlanSubject& subject, const Choice& choice,
                       const std::vector<double>& values,
                       const std::function<Status(double, const PackedChoice&)>& use) {
  RWKV_ASSIGN(const Recipe recipe, recipe_of(subject, choice));
  RWKV_ASSIGN(Work work, run_choice(subject, recipe));
  for (const double p_min : values) {
    work.plan.config.head_p_min = static_cast<float>(p_min);
    const std::string path = subject.scratch_folder + kScratchName;
    RWKV_TRY(write(subject, recipe, work, path));
    RWKV_TRY(use(p_min, {work.plan, path}));
  }
  return {};
}

Result<PackPlan> pack_plan_of(const PlanSubject& subject, const Choice& choice) {
  RWKV_ASSIGN(const Recipe recipe, recipe_of(subject, choice));
  return plan_stages(recipe, subject.model);
}

Result<PackPlan> pack_plan_of(const PlanSubject& subject, const Choice& choice,
                              const PackedSize& size, uint64_t& file_bytes) {
  RWKV_ASSIGN(const Recipe recipe, recipe_of(subject, choice));
  RWKV_ASSIGN(PackPlan plan, plan_stages(recipe, subject.model));
  RWKV_ASSIGN(file_bytes, size.of(plan, recipe));
  return plan;
}

}  // namespace rwkv::press

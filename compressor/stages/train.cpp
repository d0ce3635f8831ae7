// Stage `train`: recovers the loss of compression, from text or from the predictions of the model
// that the recipe started with (RWKV-Lite, arXiv 2412.10856, continues training its factors with
// cross-entropy only). The work itself is in compressor/train.
// With `mode: blocks` each block first learns to give what the original block gives, one in memory
// at a time; then the whole model is trained for `steps` steps, if any. With `codes` it follows the
// stage `quantize` and trains what that has chosen: the network computes with the values of the
// codes, and these codes are packed.
#include "compressor/stages/train.h"

#include <algorithm>
#include <array>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/coded_model.h"
#include "compressor/stages/train_blocks.h"
#include "compressor/train/needs.h"
#include "compressor/train/progress.h"

namespace rwkv::press {
namespace {

constexpr std::array<const char*, 2> kCodes = {"scales", "all"};
constexpr std::array<const char*, 2> kModes = {"whole", "blocks"};

// Of weights with codes, unless the recipe sets them. The weights begin at the quantizer's choice.
// At the rate of a training from scratch, noise would flip more of them than they gain by.
constexpr double kCodesRate = 1e-4;
constexpr double kCodesFinalRate = 1e-5;

class TrainStage final : public Stage {
 public:
  const char* name() const override { return "train"; }
  TrainStage() {
    // The default is to learn the predictions of the original model, which are available here.
    options_.loss.head.distill = 1.0;
  }
  Settings settings() override;
  Status plan(PackPlan& plan) const override;
  bool trains() const override { return true; }
  bool rounds_again() const override { return codes() == TrainCodes::None; }
  bool has_parts() const override { return goes_by_blocks() && blocks_.is_independent(); }
  Needs needs(const StageSubject& subject) const override;
  Status run(Work& work) const override;

 protected:
  Status settle(const YAML::Node& given) override {
    if (codes() == TrainCodes::All) {
      options_.settle = settle_;
      options_.learning_rate = given["lr"] ? options_.learning_rate : kCodesRate;
      options_.final_rate = given["lr_final"] ? options_.final_rate : kCodesFinalRate;
    }
    return settle_train_options(given, options_, goes_by_blocks() ? 0 : 1);
  }

 private:
  bool goes_by_blocks() const { return mode_ == kModes[1]; }
  Status train_whole(Work& work, TrainProgress& progress) const;
  TrainCodes codes() const {
    return codes_.empty()        ? TrainCodes::None
           : codes_ == kCodes[0] ? TrainCodes::Scales
                                 : TrainCodes::All;
  }
  // A recipe may train before and after it quantizes.
  std::string folder_of(const Work::Training& training) const {
    return codes() == TrainCodes::None ? training.folder : training.folder + "/codes";
  }
  TrainOptions options_;
  BlockOptions blocks_;
  std::string mode_ = kModes[0];
  std::string codes_;  // empty: none
  double settle_ = 0.3;
};

Settings TrainStage::settings() {
  const Settings common = train_settings(options_);
  std::vector<Setting> all(common.list().begin(), common.list().end());
  all.push_back(setting::choice("mode", mode_, kModes,
                                "the whole model at once, or first block by block: one block in "
                                "memory at a time")
                    .shown_if(goes_by_blocks()));
  for (Setting& setting : block_settings(blocks_, goes_by_blocks())) {
    all.push_back(std::move(setting));
  }
  all.push_back(setting::choice("codes", codes_, kCodes,
                                "after quantize: scales (with tables, norms and other vectors; "
                                "codes stay) or all (weights too, rounded in every step)")
                    .shown_if(!codes_.empty()));
  all.push_back(setting::real("settle", settle_, 0, 1,
                              "share of the steps, the last ones, in which codes stay and scales, "
                              "tables and vectors alone move")
                    .shown_if(codes() == TrainCodes::All));
  return {name(), std::move(all)};
}

Status TrainStage::plan(PackPlan& plan) const {
  const bool has_lut = std::any_of(plan.tensors.begin(), plan.tensors.end(), [](const auto& each) {
    return codec_traits(each.codec).lut != nullptr;
  });
  if (codes() != TrainCodes::None && !has_lut) {
    return usage_error(
        "train.codes: {}: expected matrices with codes of two to six bits, found none; put a stage "
        "quantize with lut2, lut3, lut4, lut5 or u6 before it",
        codes_);
  }
  if (codes() != TrainCodes::None && !plan.shards.matrices.empty()) {
    return usage_error(
        "train.codes: {}: the narrower copies of stage shards would stay as they are; leave out "
        "one "
        "of the two stages",
        codes_);
  }
  return trainable_in(options_.parameters, bindings_of(plan)).status();
}

bool needs_teacher(const TrainOptions& options) {
  return options.loss.head.distill > 0 || options.loss.block_match > 0;
}

Needs TrainStage::needs(const StageSubject& subject) const {
  const auto numbers = [](const PackPlan& plan) {
    const PlanSizes sizes = PlanSizes::of(plan);
    return ModelNumbers{plan.config, sizes.all, sizes.blocks};
  };
  TrainSubject training{numbers(subject.plan), 0, 0, {}};
  if (needs_teacher(options_)) {
    training.teacher = numbers(subject.original);
  }
  const auto is_trainable = trainable_in(options_.parameters, bindings_of(subject.plan));
  for (const PlannedTensor& tensor : subject.plan.tensors) {
    const uint64_t n = tensor.binding.packed_rows() * tensor.binding.packed_cols();
    const bool is_coded = codes() != TrainCodes::None && tensor.codec != Codec::F32;
    training.coded += is_coded ? n : 0;
    training.trainable +=
        is_coded || (is_trainable.ok() && is_trainable.value()(tensor.binding.name)) ? n : 0;
  }
  Needs needs;
  if (goes_by_blocks()) {
    training.teacher = numbers(subject.original);
    training.largest_block = PlanSizes::of(subject.plan).largest_block;
    training.largest_of_teacher = PlanSizes::of(subject.original).largest_block;
    needs = block_training_needs(options_, blocks_, training);
  }
  if (options_.steps > 0) {
    if (options_.teacher_top_k > 0 || !needs_teacher(options_)) {
      training.teacher = {};
    }
    needs.then(train_needs(options_, training));
  }
  needs.disk += sizeof(float) * training.trainable;
  return needs;
}

Status TrainStage::run(Work& work) const {
  RWKV_TRY(plan(work.plan));
  // A training block by block says how far it is by blocks.
  TrainProgress progress(work.report, work.warn, [&](const StepReport& step) {
    if (!goes_by_blocks()) {
      work.progress(name(), share_of(step));
    }
    return work.rewrites_progress && !goes_by_blocks();
  });
  if (work.training.shard && !has_parts()) {
    return usage_error("--shard needs mode: blocks and from: teacher");
  }
  if (goes_by_blocks()) {
    RWKV_ASSIGN(const bool goes_on,
                train_blocks_of(work, options_, blocks_, codes(),
                                folder_of(work.training) + "/blocks", progress));
    work.ends_here = !goes_on;
  }
  return options_.steps == 0 || work.ends_here ? Status() : train_whole(work, progress);
}

Status TrainStage::train_whole(Work& work, TrainProgress& progress) const {
  CodedWeights weights(codes());
  if (codes() != TrainCodes::None) {
    RWKV_ASSIGN(weights, coded_weights_of(work, codes()));
  }
  const Identified student = {work.plan.config, bindings_of(work.plan)};
  const Work::Training& training = work.training;
  TrainJob job{options_,
               work.seed,
               {*work.source, student},
               ModelRef{work.original, work.original_model},
               training.vocabulary,
               folder_of(training),
               training.resume,
               training.threads,
               progress.callbacks(),
               codes() != TrainCodes::None ? &weights : nullptr,
               training.device};
  job.callbacks.on_preparing = work.progress;
  if (!training.data.empty()) {
    job.options.data = training.data;
  }
  RWKV_ASSIGN(const auto group, ProcessGroup::from_environment(options_.batch));
  if (group->size() > 1) {
    return usage_error(
        "a recipe's training runs in one process; for more use export, rwkv-press train and "
        "convert");
  }
  RWKV_ASSIGN(const Trained trained, train(job, *group));
  if (!trained.is_finished) {
    return TrainProgress::interrupted(trained, job);
  }
  for (const Parameter& parameter : trained.network->parameters()) {
    if (!weights.has(parameter.name)) {
      RWKV_TRY(work.replace(parameter.name, parameter.values.detach().cpu()));
      continue;
    }
    RWKV_ASSIGN(const std::vector<std::byte> trained_codes, weights.codes(parameter.name));
    RWKV_TRY(put_codes(work, trained_codes, parameter.name));
  }
  work.hidden = at::Tensor();
  work.report(fmt::format("train: {} steps in {:.1f} min, loss {:.4f}; log and plot in {}",
                          trained.step, trained.last.seconds / 60.0, trained.last.loss,
                          job.folder));
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_train_stage() {
  return std::make_unique<TrainStage>();
}

}  // namespace rwkv::press

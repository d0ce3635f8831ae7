// Stage `train`: recovers the loss of compression, from text or from the predictions of the model
// that the recipe started with (RWKV-Lite, arXiv 2412.10856, continues training its factors with
// cross-entropy only). The work itself is in compressor/train.
#include "compressor/stages/train.h"

#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/progress.h"

namespace rwkv::press {
namespace {

class TrainStage final : public Stage {
 public:
  const char* name() const override { return "train"; }
  TrainStage() {
    // The default is to learn the predictions of the original model, which are available here.
    options_.loss.head.distill = 1.0;
  }
  Settings settings() override { return train_settings(options_); }
  Status plan(PackPlan& plan) const override;
  bool trains() const override { return true; }
  Status run(Work& work) const override;

 protected:
  Status settle(const YAML::Node& given) override { return settle_train_options(given, options_); }

 private:
  TrainOptions options_;
};

std::vector<TensorBinding> bindings_of(const PackPlan& plan) {
  std::vector<TensorBinding> bindings;
  for (const PlannedTensor& tensor : plan.tensors) {
    bindings.push_back(tensor.binding);
  }
  return bindings;
}

Status TrainStage::plan(PackPlan& plan) const {
  return trainable_in(options_.parameters, bindings_of(plan)).status();
}

Status TrainStage::run(Work& work) const {
  const Identified student = {work.plan.config, bindings_of(work.plan)};
  TrainProgress progress(work.report, work.warn);
  Work::Training& training = work.training;
  TrainJob job{options_,
               work.seed,
               {*work.source, student},
               ModelRef{work.original, work.original_model},
               training.vocabulary,
               training.folder,
               training.resume,
               training.threads,
               progress.callbacks()};
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
    RWKV_TRY(work.replace(parameter.name, parameter.values.detach()));
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

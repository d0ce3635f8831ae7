#include "compressor/stages/train_blocks.h"

#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/coded_model.h"
#include "compressor/stages/packed_form.h"
#include "compressor/train/block_trainer.h"

namespace rwkv::press {
namespace {

std::string percents(const BlockErrors& errors) {
  return fmt::format("{:.1f} % of outputs and {:.1f} % of states", 100 * errors.output,
                     100 * errors.state);
}

void report(const Work& work, const BlocksTrained& trained, const std::string& folder) {
  if (trained.n_trained > 0) {
    work.report(fmt::format("train: {} blocks, lost on average {}; before {}", trained.n_trained,
                            percents(trained.after), percents(trained.before)));
  }
  if (trained.n_missing > 0) {
    work.report(fmt::format("train: blocks that other parts have still to train in {1}: {0}",
                            trained.n_missing, folder));
  }
}

}  // namespace

Result<bool> train_blocks_of(Work& work, const TrainOptions& options, const BlockOptions& blocks,
                             TrainCodes codes, const std::string& folder, TrainProgress& progress) {
  const Work::Training& training = work.training;
  const Identified student = {work.plan.config, bindings_of(work.plan)};
  BlockJob job{.options = options,
               .blocks = blocks,
               .seed = work.seed,
               .teacher = {work.original, work.original_model},
               .student = {*work.source, student},
               .vocabulary = training.vocabulary,
               .folder = folder,
               .resume = training.resume,
               .threads = training.threads,
               .device = training.device,
               .shard = training.shard,
               .callbacks = progress.callbacks(),
               .progress = work.progress,
               .put = [&](const std::string& name, const at::Tensor& values) {
                 return work.replace(name, values);
               }};
  if (!training.data.empty()) {
    job.options.data = training.data;
  }
  if (codes != TrainCodes::None) {
    job.codes = [&](int64_t block) {
      return coded_weights_of(work, codes, fmt::format("blocks.{}.", block));
    };
    job.put_codes = [&](const std::string& name, std::span<const std::byte> bytes) {
      return put_codes(work, bytes, name);
    };
  }
  RWKV_ASSIGN(const BlocksTrained trained, train_blocks(job));
  if (!trained.is_finished) {
    return failed("stopped after {}, saved in {}; --resume continues from there", trained.where,
                  folder);
  }
  work.hidden = at::Tensor();
  report(work, trained, folder);
  return !training.shard;
}

}  // namespace rwkv::press

#include "compressor/train/teacher.h"

namespace rwkv::press {

Status check_teacher(const TrainJob& job) {
  const bool needs_teacher = job.options.loss.head.distill > 0 || job.options.loss.block_match > 0;
  if (!needs_teacher) {
    return {};
  }
  if (!job.teacher) {
    return usage_error(
        "train.distill and train.block_match need a teacher, and there is none: --teacher, or set "
        "them to 0");
  }
  const ModelConfig& theirs = job.teacher->model.config;
  const ModelConfig& ours = job.student.model.config;
  if (theirs.n_vocab != ours.n_vocab) {
    return usage_error(
        "the teacher {} has a vocabulary of {}, the student of {}; they must be the same",
        job.teacher->source.path(), theirs.n_vocab, ours.n_vocab);
  }
  if (job.options.loss.block_match > 0 &&
      (theirs.n_embd != ours.n_embd || theirs.n_layer != ours.n_layer)) {
    return usage_error(
        "train.block_match needs a teacher of the student's shape; it has {} x {}, the student {} "
        "x {}",
        theirs.n_layer, theirs.n_embd, ours.n_layer, ours.n_embd);
  }
  return {};
}

}  // namespace rwkv::press

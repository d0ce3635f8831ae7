#include "compressor/train/needs.h"

#include <algorithm>

#include "compressor/model/needs.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kFloat = sizeof(float);
constexpr uint64_t kHalf = 2;
// Time of a product in bf16, where the CPU has it, as a share of one in f32 (measured:
// bench_block).
constexpr double kOfBf16 = 0.45;
// A gradient, and Adam's two means.
constexpr uint64_t kOfTrainable = 3 * kFloat;
// Values, and two means, in a snapshot; two are kept while another is written.
constexpr uint64_t kOfSnapshot = 3 * kFloat;
constexpr uint64_t kSnapshots = 3;
// Logits of a slice (head_loss.cpp) and what becomes of them, with a teacher's.
constexpr uint64_t kSliceBytes = uint64_t{32} << 20;
constexpr uint64_t kSlicesHeld = 5;
constexpr uint64_t kSlicesOfTeacher = 4;
// Operations for each logit: exponentials, and the gradient.
constexpr double kOfLogit = 25;
// Reads and writes of Adam and of the gradients' norm and clearing, for each trainable value.
constexpr double kOfStep = 12;

uint64_t memory_of(const TrainOptions& options, const TrainSubject& subject, uint64_t micro_batch,
                   bool recompute) {
  const ModelConfig& config = subject.student.config;
  const uint64_t tokens = micro_batch * options.length;
  const bool has_teacher = subject.teacher.all > 0;
  // What has no gradient is held in the 16 bits of its checkpoint (Network::hold_fixed), once it
  // was loaded in f32: the student before the teacher.
  const uint64_t fixed = subject.student.all - std::min(subject.student.all, subject.trainable);
  const uint64_t student = kFloat * subject.trainable + kHalf * fixed;
  const uint64_t loading =
      std::max(kFloat * subject.student.all, student + kFloat * subject.teacher.all);
  uint64_t bytes = student + kHalf * subject.teacher.all + kOfTrainable * subject.trainable +
                   2 * kFloat * subject.coded;
  const uint64_t saved = saved_bytes(config, tokens);
  bytes += recompute ? config.n_layer * kFloat * tokens * config.n_embd + 2 * saved
                     : (config.n_layer + 1) * saved;
  if (has_teacher && options.loss.block_match > 0) {
    bytes += config.n_layer * kFloat * tokens * config.n_embd;
  }
  // The head's gradient as it is made, before it is added.
  bytes += kFloat * config.n_vocab * config.n_embd;
  bytes += std::min(kSliceBytes, kFloat * tokens * config.n_vocab) *
           (kSlicesHeld + (has_teacher ? kSlicesOfTeacher : 0));
  return std::max(bytes, loading);
}

// With products as the options have them.
Effort computed(Effort effort, const TrainOptions& options) {
  effort.products *= options.wants_bf16 ? kOfBf16 : 1;
  return effort;
}

Effort pass(const ModelNumbers& model, double tokens) {
  const auto n = static_cast<uint64_t>(tokens);
  Effort effort = forward_effort(model.config, model.blocks, n);
  const double logits = tokens * static_cast<double>(model.config.n_vocab);
  effort.products += 2 * logits * static_cast<double>(model.config.n_embd);
  effort.loops += kOfLogit * logits;
  return effort;
}

}  // namespace

Needs train_needs(const TrainOptions& options, const TrainSubject& subject) {
  Needs needs;
  const uint64_t micro = std::min(options.batch, options.micro_batch);
  const bool recompute = options.loss.recompute;
  needs.memory = memory_of(options, subject, micro, recompute);
  if (!recompute) {
    needs.remedies.push_back(
        {"train.recompute=true", memory_of(options, subject, micro, /*recompute=*/true)});
  }
  if (micro > 1) {
    needs.remedies.push_back({"train.micro_batch=1", memory_of(options, subject, 1, recompute)});
  }
  if (!recompute && micro > 1) {
    needs.remedies.push_back({"train.recompute=true and train.micro_batch=1",
                              memory_of(options, subject, 1, /*recompute=*/true)});
  }
  if (subject.teacher.all > 0 && options.loss.block_match == 0) {
    TrainSubject alone = subject;
    alone.teacher = {};
    needs.remedies.push_back(
        {"train.teacher_top_k=64", memory_of(options, alone, micro, recompute)});
  }
  const double tokens = static_cast<double>(options.batch * options.length);
  const auto steps = static_cast<double>(options.steps);
  // Backwards: the gradients of inputs, and of weights.
  const double passes = 3 + (recompute ? 1 : 0);
  Effort step = pass(subject.student, tokens) * passes;
  if (subject.teacher.all > 0) {
    step += pass(subject.teacher, tokens);
  }
  step.bytes += kOfStep * static_cast<double>(kFloat * subject.trainable);
  needs.parallel = computed(step, options) * steps;
  needs.disk = kSnapshots * kOfSnapshot * subject.trainable;
  needs.files = (options.steps / options.save_every + 1) * kOfSnapshot * subject.trainable;
  return needs;
}

Needs block_training_needs(const TrainOptions& options, const BlockOptions& blocks,
                           const TrainSubject& subject) {
  // Streams of activations: what goes in, and what the teacher gives.
  constexpr uint64_t kStreams = 3;
  const ModelConfig& config = subject.student.config;
  const uint64_t micro = std::min(options.batch, options.micro_batch);
  const uint64_t tokens = micro * options.length;
  const auto n_layer = std::max<uint64_t>(1, config.n_layer);
  Needs needs;
  needs.memory = kFloat * (subject.largest_block + subject.largest_of_teacher) * 2 +
                 kOfTrainable * subject.largest_block + 2 * saved_bytes(config, tokens) +
                 kFloat * options.batch * options.length * config.n_embd * 4;
  const uint64_t sequences = blocks.sequences > 0 ? blocks.sequences : blocks.steps * options.batch;
  needs.disk = kStreams * kHalf * sequences * options.length * config.n_embd +
               kFloat * subject.trainable + kSnapshots * kOfSnapshot * subject.trainable / n_layer;
  needs.files = 2 * n_layer * needs.disk;
  // Each block: steps forwards and backwards, the teacher's outputs once, the student's on the way.
  const uint64_t in_steps = blocks.steps * options.batch * options.length;
  const uint64_t in_streams = sequences * options.length;
  needs.parallel = forward_effort(config, subject.student.blocks, in_steps) * 3;
  needs.parallel += forward_effort(config, subject.student.blocks, in_streams);
  needs.parallel += forward_effort(config, subject.teacher.blocks, in_streams) *
                    (blocks.is_independent() ? 1 : 2);
  needs.parallel = computed(needs.parallel, options);
  return needs;
}

}  // namespace rwkv::press

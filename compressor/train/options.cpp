#include "compressor/train/options.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
namespace rwkv::press {
namespace {

constexpr std::array<const char*, 3> kPrecisions = {"auto", "fp32", "bf16"};
constexpr size_t kAuto = 0;
constexpr size_t kBf16 = 2;
// Of the learning rate, where it begins again once codes stay: scales move with less than weights.
constexpr double kSettledRate = 0.5;

bool has_fast_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

}  // namespace

Settings train_settings(TrainOptions& options) {
  using namespace setting;
  constexpr uint64_t kMost = uint64_t{1} << 40;
  constexpr uint64_t kMostTokens = 1 << 20;
  AdamWOptions& adamw = options.adamw;
  LossOptions& loss = options.loss;
  const bool has_answers = !options.answers_after.empty();
  return {
      "train",
      {
          texts("data", options.data,
                "text or token files (.u16, .u32, .bin) to learn from; --data replaces them"),
          texts("valid", options.valid, "the same, for the loss on text that is not learnt from"),
          count("steps", options.steps, 0, kMost, "optimiser steps of the whole model"),
          count("batch", options.batch, 1, kMostTokens,
                "sequences per step, over all processes together"),
          count("micro_batch", options.micro_batch, 1, kMostTokens,
                "sequences per pass; gradients of several passes add up to a step"),
          count("length", options.length, 2, kMostTokens, "tokens per sequence"),
          text("start_after", options.start_after,
               "a token, such as the end of a line, after which sequences start")
              .shown_if(!options.start_after.empty()),
          real("lr", options.learning_rate, 0, 10, "learning rate after the warm-up"),
          real("lr_final", options.final_rate, 0, 10, "learning rate at the end of the cosine"),
          real("lr_vocabulary", adamw.vocabulary_rate, 0, 100,
               "of the embedding and the head, relative to all others")
              .shown_if(adamw.vocabulary_rate != 1),
          count("warmup", options.warmup, 0, kMost, "steps"),
          real("beta1", adamw.beta1, 0, 0.99999, "of AdamW"),
          real("beta2", adamw.beta2, 0, 0.999999, "of AdamW"),
          real("epsilon", adamw.epsilon, 1e-30, 1, "of AdamW"),
          real("weight_decay", adamw.weight_decay, 0, 10, "of matrices; vectors never decay"),
          real("clip", options.clip, 0, 1e9, "largest norm of the gradients; 0 for none"),
          real("distill", loss.head.distill, 0, 1,
               "weight of the teacher's predictions relative to the text"),
          real("temperature", loss.head.temperature, 0.01, 100,
               "of the teacher's and the student's predictions"),
          real("block_match", loss.block_match, 0, 1e6,
               "weight of the distance between the blocks' outputs and the teacher's"),
          count(
              "teacher_top_k", options.teacher_top_k, 0, kMostTokens,
              "the teacher's likeliest answers for each token, from a file that is written first; "
              "0: the whole teacher in memory")
              .shown_if(options.teacher_top_k > 0),
          text("answers_after", options.answers_after, "a token: what follows it is an answer")
              .shown_if(has_answers),
          real("answers_weight", loss.answers_weight, 0, 1e6,
               "of answers in the gradients; all other tokens weigh 1")
              .shown_if(has_answers),
          texts("parameters", options.parameters,
                "what is trained: factors, all, or globs over tensor names"),
          choice("precision", options.precision, kPrecisions,
                 "of products; auto: bf16 if the CPU has it")
              .printed_as(options.wants_bf16 ? "bf16" : "fp32"),
          flag("recompute", loss.recompute,
               "less memory: blocks are computed again in the backward pass"),
          count("save_every", options.save_every, 1, kMost, "steps between snapshots"),
      }};
}

Status read_train_options(const YAML::Node& node, TrainOptions& options) {
  RWKV_TRY(train_settings(options).read(node));
  return settle_train_options(node, options);
}

Status settle_train_options(const YAML::Node& given, TrainOptions& options, uint64_t least_steps) {
  if (options.steps < least_steps) {
    return usage_error("train.steps: expected an integer of at least {}, got '{}'", least_steps,
                       options.steps);
  }
  if (options.teacher_top_k > 0 && options.loss.block_match > 0) {
    return usage_error(
        "train.block_match compares the outputs of blocks, which train.teacher_top_k does not "
        "keep; "
        "set one of them to 0");
  }
  if (!given["micro_batch"]) {
    options.micro_batch = std::min(options.batch, options.micro_batch);
  }
  options.wants_bf16 =
      options.precision == kBf16 || (options.precision == kAuto && has_fast_bf16());
  options.loss.head.precision = options.wants_bf16 ? Precision::Bf16 : Precision::F32;
  if (options.batch % options.micro_batch != 0) {
    return usage_error("train.batch {} is not a multiple of train.micro_batch {}", options.batch,
                       options.micro_batch);
  }
  return {};
}

void emit_train_options(TrainOptions options, YAML::Emitter& out) {
  train_settings(options).emit(out);
}

uint64_t steps_before_settling(const TrainOptions& options) {
  const auto settled = std::llround(options.settle * static_cast<double>(options.steps));
  return options.steps - std::min(options.steps, static_cast<uint64_t>(settled));
}

double learning_rate_at(const TrainOptions& options, uint64_t step) {
  const uint64_t settles = steps_before_settling(options);
  const bool is_settled = step > settles;
  const uint64_t begin = is_settled ? settles : options.warmup;
  const uint64_t end = is_settled ? options.steps : settles;
  if (step <= begin) {
    return options.learning_rate * static_cast<double>(step) / static_cast<double>(options.warmup);
  }
  const auto span = static_cast<double>(end > begin ? end - begin : uint64_t{1});
  const double done = static_cast<double>(step - begin) / span;
  const double share = 0.5 * (1.0 + std::cos(std::numbers::pi * std::min(1.0, done)));
  const double first = options.learning_rate * (is_settled ? kSettledRate : 1);
  return options.final_rate + (first - options.final_rate) * share;
}

}  // namespace rwkv::press

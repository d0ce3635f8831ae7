#include "compressor/train/options.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "compressor/options/option_values.h"

namespace rwkv::press {
namespace {

constexpr std::array<OptionSpec, 25> kOptions = {{
    {"data", "[]", "text or token files (.u16, .u32, .bin) to learn from; --data replaces them"},
    {"valid", "[]", "the same, for the loss on text that is not learnt from"},
    {"steps", "1000", "optimiser steps"},
    {"batch", "8", "sequences per step, over all processes together"},
    {"micro_batch", "8", "sequences per pass; gradients of several passes add up to a step"},
    {"length", "256", "tokens per sequence"},
    {"start_after", "none", "a token, such as a line's end, that sequences start behind"},
    {"lr", "6e-4", "learning rate after the warm-up"},
    {"lr_final", "6e-5", "learning rate at the end of the cosine"},
    {"lr_vocabulary", "1", "of the embedding and the head, against all others'"},
    {"warmup", "10", "steps"},
    {"beta1", "0.9", "of AdamW"},
    {"beta2", "0.99", "of AdamW"},
    {"epsilon", "1e-8", "of AdamW"},
    {"weight_decay", "0.001", "of matrices; vectors never decay"},
    {"clip", "1.0", "largest norm of the gradients; 0 for none"},
    {"distill", "0 (in a recipe 1)", "weight of the teacher's answers against the text's"},
    {"temperature", "1", "of the teacher's and the student's answers"},
    {"block_match", "0", "weight of the blocks' outputs against the teacher's"},
    {"answers_after", "none", "a token: what follows it is an answer"},
    {"answers_weight", "1", "of answers against all other tokens, in the gradients"},
    {"parameters", "[all]", "what moves: factors, all, or globs over tensor names"},
    {"precision", "auto", "of products: fp32, bf16, or auto (bf16 where the CPU has it)"},
    {"recompute", "false", "less memory: blocks are computed again on the way back"},
    {"save_every", "500", "steps between checkpoints"},
}};

constexpr std::array<const char*, 3> kPrecisions = {"auto", "fp32", "bf16"};

bool has_fast_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

}  // namespace

std::span<const OptionSpec> train_option_specs() {
  return kOptions;
}

Status read_train_options(const YAML::Node& node, TrainOptions& options) {
  const OptionValues values(node, "train");
  constexpr uint64_t kMost = uint64_t{1} << 40;
  RWKV_TRY(values.texts("data", options.data));
  RWKV_TRY(values.texts("valid", options.valid));
  RWKV_TRY(values.count("steps", 1, kMost, options.steps));
  RWKV_TRY(values.count("batch", 1, 1 << 20, options.batch));
  options.micro_batch = std::min(options.batch, options.micro_batch);
  RWKV_TRY(values.count("micro_batch", 1, 1 << 20, options.micro_batch));
  RWKV_TRY(values.count("length", 2, 1 << 20, options.length));
  RWKV_TRY(values.text("start_after", options.start_after));
  RWKV_TRY(values.real("lr", 0, 10, options.learning_rate));
  RWKV_TRY(values.real("lr_final", 0, 10, options.final_rate));
  RWKV_TRY(values.real("lr_vocabulary", 0, 100, options.adamw.vocabulary_rate));
  RWKV_TRY(values.count("warmup", 0, kMost, options.warmup));
  RWKV_TRY(values.real("beta1", 0, 0.99999, options.adamw.beta1));
  RWKV_TRY(values.real("beta2", 0, 0.999999, options.adamw.beta2));
  RWKV_TRY(values.real("epsilon", 1e-30, 1, options.adamw.epsilon));
  options.adamw.weight_decay = 0.001;
  RWKV_TRY(values.real("weight_decay", 0, 10, options.adamw.weight_decay));
  RWKV_TRY(values.real("clip", 0, 1e9, options.clip));
  RWKV_TRY(values.real("distill", 0, 1, options.loss.head.distill));
  RWKV_TRY(values.real("temperature", 0.01, 100, options.loss.head.temperature));
  RWKV_TRY(values.real("block_match", 0, 1e6, options.loss.block_match));
  RWKV_TRY(values.text("answers_after", options.answers_after));
  RWKV_TRY(values.real("answers_weight", 0, 1e6, options.loss.answers_weight));
  RWKV_TRY(values.texts("parameters", options.parameters));
  size_t precision = 0;
  RWKV_TRY(values.choice("precision", kPrecisions, precision));
  options.wants_bf16 = precision == 2 || (precision == 0 && has_fast_bf16());
  options.loss.head.precision = options.wants_bf16 ? Precision::Bf16 : Precision::F32;
  RWKV_TRY(values.flag("recompute", options.loss.recompute));
  RWKV_TRY(values.count("save_every", 1, kMost, options.save_every));
  if (options.batch % options.micro_batch != 0) {
    return usage_error("train.batch {} is not a multiple of train.micro_batch {}", options.batch,
                       options.micro_batch);
  }
  return {};
}

void emit_train_options(const TrainOptions& options, YAML::Emitter& out) {
  const auto put = [&](const char* key, const auto& value) {
    out << YAML::Key << key << YAML::Value << value;
  };
  out << YAML::BeginMap;
  out << YAML::Key << "data" << YAML::Value << YAML::Flow << options.data;
  out << YAML::Key << "valid" << YAML::Value << YAML::Flow << options.valid;
  put("steps", options.steps);
  put("batch", options.batch);
  put("micro_batch", options.micro_batch);
  put("length", options.length);
  if (!options.start_after.empty()) {
    put("start_after", options.start_after);
  }
  put("lr", options.learning_rate);
  put("lr_final", options.final_rate);
  if (options.adamw.vocabulary_rate != 1) {
    put("lr_vocabulary", options.adamw.vocabulary_rate);
  }
  put("warmup", options.warmup);
  put("beta1", options.adamw.beta1);
  put("beta2", options.adamw.beta2);
  put("epsilon", options.adamw.epsilon);
  put("weight_decay", options.adamw.weight_decay);
  put("clip", options.clip);
  put("distill", options.loss.head.distill);
  put("temperature", options.loss.head.temperature);
  put("block_match", options.loss.block_match);
  if (!options.answers_after.empty()) {
    put("answers_after", options.answers_after);
    put("answers_weight", options.loss.answers_weight);
  }
  out << YAML::Key << "parameters" << YAML::Value << YAML::Flow << options.parameters;
  put("precision", options.wants_bf16 ? "bf16" : "fp32");
  put("recompute", options.loss.recompute);
  put("save_every", options.save_every);
  out << YAML::EndMap;
}

double learning_rate_at(const TrainOptions& options, uint64_t step) {
  if (step <= options.warmup) {
    return options.learning_rate * static_cast<double>(step) / static_cast<double>(options.warmup);
  }
  const double span = static_cast<double>(
      options.steps > options.warmup ? options.steps - options.warmup : uint64_t{1});
  const double done = static_cast<double>(step - options.warmup) / span;
  const double share = 0.5 * (1.0 + std::cos(std::numbers::pi * std::min(1.0, done)));
  return options.final_rate + (options.learning_rate - options.final_rate) * share;
}

}  // namespace rwkv::press

// Settings of a training: of the recipe's stage `train` and of `rwkv-press train`.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "compressor/options/option_spec.h"
#include "compressor/train/adamw.h"
#include "compressor/train/gradients.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct TrainOptions {
  std::vector<std::string> data;   ///< text or token files
  std::vector<std::string> valid;  ///< the same, not trained on
  uint64_t steps = 1000;
  uint64_t batch = 8;        ///< sequences per step, over all ranks
  uint64_t micro_batch = 8;  ///< sequences per pass; gradients are added up to `batch`
  uint64_t length = 256;     ///< tokens per sequence
  std::string start_after;   ///< a token; sequences start behind one; empty: anywhere
  double learning_rate = 6e-4;
  double final_rate = 6e-5;  ///< where the cosine ends
  uint64_t warmup = 10;      ///< steps of linear growth to learning_rate
  double clip = 1.0;         ///< largest gradient norm; 0: none
  AdamWOptions adamw;
  LossOptions loss;
  std::string answers_after;  ///< a token; what follows it weighs loss.answers_weight; empty: none
  bool wants_bf16 = false;
  /// "factors", "all", or globs over tensor names.
  std::vector<std::string> parameters = {"all"};
  uint64_t save_every = 500;  ///< steps
};

/// The keys, with defaults and help; `train` of recipes and configurations has exactly these.
std::span<const OptionSpec> train_option_specs();
/// Reads a map whose keys are all declared over the defaults in `options`; Usage names a bad value.
Status read_train_options(const YAML::Node& node, TrainOptions& options);
void emit_train_options(const TrainOptions& options, YAML::Emitter& out);

/// Learning rate of step 1, 2, ...: linear warm-up, then half a cosine to final_rate.
double learning_rate_at(const TrainOptions& options, uint64_t step);

}  // namespace rwkv::press

// Settings of a training, for the stage `train` of recipes and for `rwkv-press train`.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/options/settings.h"
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
  std::string start_after;   ///< a token; sequences start after one; empty: anywhere
  double learning_rate = 6e-4;
  double final_rate = 6e-5;  ///< where the cosine ends
  uint64_t warmup = 10;      ///< steps of linear growth to learning_rate
  double clip = 1.0;         ///< largest gradient norm; 0: none
  AdamWOptions adamw = {.weight_decay = 0.001};
  LossOptions loss;
  /// The teacher's likeliest answers for each token, written to a file first; 0: the whole teacher
  /// is in memory instead.
  uint64_t teacher_top_k = 0;
  std::string answers_after;  ///< a token; tokens after it weigh loss.answers_weight; empty: none
  size_t precision = 0;       ///< as written: auto, fp32 or bf16
  bool wants_bf16 = false;    ///< of products; follows from precision
  /// "factors", "state", "all", or globs over tensor names.
  std::vector<std::string> parameters = {"all"};
  uint64_t save_every = 500;  ///< steps
  /// Share of the steps, the last ones, in which trained codes stay and all else moves.
  double settle = 0;
};

/// `train` of recipes and configurations.
Settings train_settings(TrainOptions& options);
/// After reading: what follows from the values, and from which of them `given` has. Usage for less
/// than `least_steps`.
Status settle_train_options(const YAML::Node& given, TrainOptions& options,
                            uint64_t least_steps = 1);
/// Both. Usage names a bad key or value.
Status read_train_options(const YAML::Node& node, TrainOptions& options);
void emit_train_options(TrainOptions options, YAML::Emitter& out);

/// Steps after which codes stay; `steps` if they never do.
uint64_t steps_before_settling(const TrainOptions& options);

/// Learning rate of step 1, 2, ...: linear warm-up, then half a cosine to final_rate; half a cosine
/// more, from half of learning_rate, once codes stay.
double learning_rate_at(const TrainOptions& options, uint64_t step);

}  // namespace rwkv::press

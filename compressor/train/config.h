// The configuration of `rwkv-press train`: a name, a seed, the model to make if there is no
// checkpoint to start from, and the settings of the training.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "compressor/checkpoint/new_model.h"
#include "compressor/train/initial_values.h"
#include "compressor/train/options.h"

namespace rwkv::press {

struct TrainConfig {
  std::string name;
  uint64_t seed = 0;
  std::optional<NewModelOptions> model;
  InitialOptions initial;  ///< with the same seed
  TrainOptions train;
};

/// `text` is YAML, `origin` names it in messages, `overrides` are "train.key=value" from --set.
/// Every key must be known and every value of the right kind; Usage names the first one that is
/// not.
Result<TrainConfig> parse_train_config(const std::string& text, const std::string& origin,
                                       std::span<const std::string> overrides);

}  // namespace rwkv::press

// What stages work on: the model in its current state, the plan of what will be packed, and what
// there is to learn from.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressor/calibrate/calibration.h"
#include "compressor/checkpoint/edited_source.h"
#include "compressor/stages/plan.h"

namespace rwkv::press {

/// What a conversion is given, the same for all of its stages.
struct WorkContext {
  /// What the recipe started with: the teacher. Must outlive the work.
  const TensorSource& original;
  Identified original_model;
  std::optional<Calibration> calibration;
  uint64_t seed = 0;
  /// For stages that train.
  struct Training {
    std::vector<std::string> data;  ///< in place of the recipe's, unless empty
    std::optional<Vocabulary> vocabulary;
    std::string folder;  ///< for checkpoints and logs; made when needed
    bool resume = false;
  };
  Training training;
  /// What conversions of one checkpoint may share; empty: nothing.
  std::string shared_folder;
  /// Called with what is being done and the share done.
  std::function<void(const std::string& what, double share)> progress = [](const std::string&,
                                                                           double) {};
  /// Called with a line worth keeping: what a stage measured.
  std::function<void(const std::string& line)> report = [](const std::string&) {};
};

struct Work : WorkContext {
  /// Work on `base`, which must outlive it, where `plan` describes the model. `scratch_folder`
  /// takes temporary data of about the size of what stages add.
  static Result<Work> begin(WorkContext context, const TensorSource& base, PackPlan plan,
                            const std::string& scratch_folder);

  std::unique_ptr<EditedSource> source;
  /// plan.config is the model's. Tensors are found in `source` by name; their index is set last.
  PackPlan plan;

  /// Activations after the last block for the calibration tokens, [samples * length, n_embd];
  /// computed if no stage has left them. A stage that changes blocks resets or replaces them.
  Result<at::Tensor> last_hidden();
  at::Tensor hidden;

  /// Adds an f32 tensor, or replaces it, in the source; the plan is the stage's own part.
  Status put(const std::string& name, const at::Tensor& values);
  /// New values for a tensor that the source has; it keeps its shape.
  Status replace(const std::string& name, const at::Tensor& values);
};

}  // namespace rwkv::press

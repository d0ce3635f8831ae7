// A plan for a budget, from the checkpoint to the recipe: the work of `plan --fit`, and of
// `convert` for a recipe with a budget, for any caller.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compressor/planner/planner.h"

namespace rwkv::press {

struct FitOptions {
  /// Of the checkpoint; in messages, and what curves belong to.
  std::string path;
  std::optional<Vocabulary> vocabulary = {};
  /// Text that stages learn from.
  std::vector<std::string> calibration = {};
  /// Text that losses are measured on; empty: stretches of the calibration text that stages do not
  /// see.
  std::string text = {};
  /// File that keeps what was measured, read if it is there; empty: nothing is kept.
  std::string curves = {};
  std::string tool_version = {};  ///< that convert will write into files
  std::function<void(const std::string& what, double share)> progress = [](const std::string&,
                                                                           double) {};
};

struct FitReport {
  PlanReport plan;
  PlanRequest request;
  std::vector<PlannedMatrix> matrices;
  std::string model;  ///< described
  /// If losses were estimated, what was measured to scale them.
  std::vector<SampledChoice> samples = {};
};

/// Plans `recipe`, which has a budget, for the model in `source`. Packed files that are measured
/// lie in a folder of their own under TMPDIR while it works. The same input,
/// texts and budget give the same plan with any number of threads, but for min_speed, which has a
/// clock in it. Usage
/// for limits that cannot be met, naming the smallest that can, before anything is measured. A file
/// of curves grows as they are measured; where it is there, what it has is not measured again.
Result<FitReport> fit_budget(const TensorSource& source, const Identified& model,
                             const Recipe& recipe, const FitOptions& options);

/// One line: what was measured and what was predicted.
std::string summary(const FitReport& report);

}  // namespace rwkv::press

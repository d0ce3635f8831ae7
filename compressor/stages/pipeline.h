// A checkpoint through the stages of a recipe.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "compressor/checkpoint/open.h"
#include "compressor/recipe/recipe.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

/// Whether any stage of the recipe learns from text.
bool needs_calibration(const Recipe& recipe);
/// Whether any stage trains, or has the model trained.
bool trains(const Recipe& recipe);

struct PipelineOptions {
  /// For recipes that need it; see load_calibration().
  std::optional<Calibration> calibration;
  /// Takes temporary data of about the size of what stages add.
  std::string scratch_folder;
  /// For recipes that train.
  Work::Training training;
  std::function<void(const std::string& what, double share)> progress = [](const std::string&,
                                                                           double) {};
  std::function<void(const std::string& line)> report = [](const std::string&) {};
};

/// The plan that the stages make of the model, before any work: refuses recipes that do not fit it.
Result<PackPlan> plan_stages(const Recipe& recipe, const Identified& model);

/// Runs the stages on `source`, which must outlive the result. The plan of the result is ready for
/// pack().
Result<Work> run_stages(const Recipe& recipe, const TensorSource& source, const Identified& model,
                        const PipelineOptions& options);

}  // namespace rwkv::press

// A checkpoint through the stages of a recipe.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compressor/checkpoint/open.h"
#include "compressor/pipeline/kept_stages.h"
#include "compressor/recipe/recipe.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

struct PipelineOptions {
  /// For recipes that need it; see load_calibration().
  std::optional<Calibration> calibration;
  /// Folder for temporary data of about the size of the tensors that stages add.
  std::string scratch_folder;
  /// Where finished stages are kept, and from where the conversion goes on; nullptr: nowhere.
  KeptStages* kept = nullptr;
  /// Folder for data that other conversions of the checkpoint may use again; empty: none.
  std::string shared_folder;
  /// For recipes that train.
  Work::Training training;
  /// Whether stages may run commands of the recipe; see check_commands().
  bool allow_external = false;
  std::function<void(const std::string& what, Share share)> progress = [](const std::string&,
                                                                          Share) {};
  /// Called before stage `index` of `n`, from 0, and after it; the last of them is "pack". Those
  /// that were finished before are passed over.
  std::function<void(size_t index, size_t n, const std::string& name, bool ends)> on_stage =
      [](size_t, size_t, const std::string&, bool) {};
  /// Whether progress is shown as it comes, on a terminal.
  bool rewrites_progress = false;
  std::function<void(const std::string& line)> report = [](const std::string&) {};
  std::function<void(const std::string& line)> warn = [](const std::string&) {};
};

/// The plan that the stages make of the model, before any work: refuses recipes that do not fit it.
Result<PackPlan> plan_stages(const Recipe& recipe, const Identified& model);

/// The tensors of `source` that have rounded values and would be rounded again under `plan`, the
/// plan of `recipe`: those that are neither copied as codes nor packed unchanged.
std::vector<std::string> rounded_again(const Recipe& recipe, const TensorSource& source,
                                       const PackPlan& plan);

// A recipe stage by stage, for recipes that begin alike and share their common stages.

/// Initial state for the first stage. `source` must outlive the returned Work and everything made
/// from it.
Result<Work> begin_work(const TensorSource& source, const Identified& model, uint64_t seed,
                        const PipelineOptions& options);
/// A copy of `work` in its current state, to continue separately; `work` must outlive it and stay
/// as it is.
Result<Work> branch(const Work& work, const std::string& scratch_folder);
/// Runs one stage; messages name it.
Status run_stage(const Stage& stage, Work& work);
/// After the last stage: makes the plan ready for pack().
Status end_work(Work& work);

/// All stages on `source`. The plan of the result is ready for pack(), unless it `ends_here`: then
/// options.training.shard was done, and there is nothing to pack.
Result<Work> run_stages(const Recipe& recipe, const TensorSource& source, const Identified& model,
                        const PipelineOptions& options);

}  // namespace rwkv::press

// The subject of stages: the model in its current state, the plan of the packed file, and the text
// to learn from.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressor/calibrate/calibration.h"
#include "compressor/checkpoint/edited_source.h"
#include "compressor/numerics/share.h"
#include "compressor/stages/plan.h"
#include "compressor/train/block_options.h"

namespace rwkv::press {

/// The input of a conversion, the same for all of its stages.
struct WorkContext {
  /// The model that the recipe started with, which is the teacher. Must outlive the work.
  const TensorSource& original;
  Identified original_model;
  std::optional<Calibration> calibration;
  uint64_t seed = 0;
  /// For stages that train.
  struct Training {
    std::vector<std::string> data;  ///< instead of the recipe's, unless empty
    std::optional<Vocabulary> vocabulary;
    std::string folder;  ///< for snapshots and logs; created when needed
    bool resume = false;
    int threads = 0;  ///< as in TrainJob
    /// Train only this part of the blocks, and end there; see train_blocks().
    std::optional<BlockShard> shard;
    at::Device device = at::kCPU;  ///< as in TrainJob
  };
  Training training;
  /// Whether stages may run commands of the recipe.
  bool allow_external = false;
  /// Folder for data that conversions of one checkpoint may share; empty: none.
  std::string shared_folder;
  /// Called with the current step and how far it is.
  std::function<void(const std::string& what, Share share)> progress = [](const std::string&,
                                                                          Share) {};
  /// Whether progress is shown as it comes, so that a training need not say its steps now and then.
  bool rewrites_progress = false;
  /// Called with a line to keep: a measurement of a stage.
  std::function<void(const std::string& line)> report = [](const std::string&) {};
  /// Called with a line that the user should see in any case.
  std::function<void(const std::string& line)> warn = [](const std::string&) {};
};

struct Work : WorkContext {
  /// Work on `base`, which must outlive it; `plan` describes the model. `scratch_folder` receives
  /// temporary data of about the size of the tensors that stages add.
  static Result<Work> begin(WorkContext context, const TensorSource& base, PackPlan plan,
                            const std::string& scratch_folder);
  /// The same with temporary data in `data`.
  static Work begin(WorkContext context, const TensorSource& base, PackPlan plan,
                    std::unique_ptr<ScratchFile> data);

  std::unique_ptr<EditedSource> source;
  /// plan.config is the model's. Tensors are found in `source` by name; their index is set last.
  PackPlan plan;

  /// Activations after the last block for the calibration tokens, [samples * length, n_embd];
  /// computed if no stage has left them. A stage that changes blocks resets or replaces them.
  Result<at::Tensor> last_hidden();
  at::Tensor hidden;
  /// Shares of the output energy that matrices lost, by the name of the tensor or of what became a
  /// pair, where a stage measured them with the moments of inputs.
  std::map<std::string, double> errors;

  /// A stage has done its part of the work that several runs share: what follows is for another
  /// run.
  bool ends_here = false;

  /// Adds an f32 tensor, or replaces it, in the source; the plan is the stage's own part.
  Status put(const std::string& name, const at::Tensor& values);
  /// New values for a tensor that the source has; it keeps its shape.
  Status replace(const std::string& name, const at::Tensor& values);
};

}  // namespace rwkv::press

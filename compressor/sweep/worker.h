// The work of a child process: the points of one job, one after another. Recipes that begin alike
// share their common work: the calibration, and every stage before the first difference.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "compressor/checkpoint/open.h"
#include "compressor/sweep/job.h"

namespace rwkv::press {

struct WorkerModel {
  const TensorSource& source;
  const Identified& model;
  std::optional<Vocabulary> vocabulary;
  std::string name;          ///< of the model, in packed files
  std::string tool_version;  ///< the same
  unsigned n_threads = 1;    ///< threads of evaluations
};

/// Called with the current point and step.
using WorkerProgress = std::function<void(const std::string& id, const std::string& what)>;

/// Every point ends with a result or an error in its folder; failing ones do not stop the rest. A
/// packed file is the same, byte for byte, as from converting its recipe by itself.
Status run_job(const SweepJob& job, const WorkerModel& model, const WorkerProgress& progress);

}  // namespace rwkv::press

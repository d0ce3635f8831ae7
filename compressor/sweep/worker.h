// A child of a sweep at work: the points of one job, one after another. Recipes that begin alike
// share what they do alike: the calibration, and every stage up to the first that differs.
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
  unsigned n_threads = 1;    ///< of evaluations
};

/// Called with the point that is worked on and what is being done.
using WorkerProgress = std::function<void(const std::string& id, const std::string& what)>;

/// Every point ends with a result or an error in its folder; failing ones do not stop the rest. A
/// packed file is the same, byte for byte, as a conversion of its recipe alone makes.
Status run_job(const SweepJob& job, const WorkerModel& model, const WorkerProgress& progress);

}  // namespace rwkv::press

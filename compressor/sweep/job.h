// The task of a child process of a sweep: which points to convert, from which files. Sent as JSON.
#pragma once

#include <string>
#include <vector>

#include "compressor/sweep/files.h"
#include "compressor/sweep/settings.h"

namespace rwkv::press {

/// Files that all points have in common.
struct SweepInputs {
  std::string checkpoint;
  std::string vocab;  ///< as in --vocab; empty: search for one
  std::vector<std::string> calibration;
  std::string statistics;
  std::vector<std::string> train_data;
  bool allow_requantize = false;
  bool allow_external = false;          ///< commands of recipes may run
  std::optional<float> group_norm_eps;  ///< in place of what the checkpoint implies
};

struct SweepJob {
  SweepInputs inputs;
  SweepEvaluation evaluation;
  std::string folder;       ///< of the sweep
  std::string fingerprint;  ///< of everything that all points have in common
  std::string reference;    ///< packed file to compare with; empty: none
  bool keep_models = false;
  std::vector<std::string> points;  ///< their ids
};

Json job_to_json(const SweepJob& job);
/// BadInput if a field is missing or has the wrong type.
Result<SweepJob> job_from_json(const std::string& text);

}  // namespace rwkv::press

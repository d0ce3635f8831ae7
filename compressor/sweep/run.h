// A sweep: distributes its points to child processes, survives their failures, measures speeds when
// nothing else runs, and keeps the results up to date.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "compressor/checkpoint/open.h"
#include "compressor/sweep/fingerprint.h"
#include "compressor/sweep/folder.h"
#include "compressor/sweep/worker.h"

namespace rwkv::press {

struct SweepRun {
  SweepSettings settings;
  SweepPlan plan;
  SweepInputs inputs;
  Fingerprint fingerprint;
  SweepFolder folder;
  size_t jobs = 1;
  size_t shard = 0;  ///< from 0
  size_t n_shards = 1;
  bool keep_models = false;
  bool changed = false;        ///< go on in the folder of another configuration
  bool retry_claimed = false;  ///< take points that other machines have claimed
};

/// Progress, for display while it runs.
struct SweepProgress {
  size_t done = 0;  ///< of this run's points, earlier ones included
  size_t failed = 0;
  size_t total = 0;
  std::string current;        ///< point and current step
  bool is_milestone = false;  ///< a point was finished, or another part begins
};

struct SweepOutcome {
  Json results;
  size_t failed = 0;   ///< of this run's points
  size_t missing = 0;  ///< the ones that other processes work on
};

/// Everything has been checked before, except for the folder: see SweepLock and check_entries().
/// Failed only if the folder cannot be written or children cannot be started; points that fail are
/// counted.
Result<SweepOutcome> run_sweep_points(const SweepRun& run, const WorkerModel& model,
                                      const std::function<void(const SweepProgress&)>& progress);

}  // namespace rwkv::press

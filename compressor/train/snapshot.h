// A training's state on disk: a sealed safetensors file per saved step, which has all that a
// bit-identical continuation needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/train/adamw.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct Snapshot {
  uint64_t step = 0;         ///< steps done
  double seconds = 0.0;      ///< spent so far, for the log
  std::string settings;      ///< of the training, to be the same on resume
  std::vector<int> threads;  ///< of each process, by rank
};

/// The most threads that a process of a training may use.
inline constexpr int kMaxTrainThreads = 256;

/// The first line in which the settings of two trainings differ, for a message.
std::string settings_difference(const std::string& saved, const std::string& expected);

/// Writes FOLDER/step-NNNNNNNN.safetensors whole or not at all, then removes all but the newest
/// two up to this step; those of later steps were passed over, and stay. The path. No space left is
/// a Failed status; earlier snapshots are kept.
Result<std::string> save_snapshot(const std::string& folder, const Snapshot& state,
                                  AdamW& optimizer);

/// The paths of all snapshots, the newest first. Failed if the folder cannot be listed.
Result<std::vector<std::string>> snapshots_in(const std::string& folder);

/// Reads it into the optimiser and its parameters. BadInput if the file is damaged, belongs to
/// other parameters or holds values that no training of `steps` steps could have left: the message
/// says which. Usage, with the setting that differs, if `settings` are not those it was saved with.
/// After an error the parameters may be partly replaced.
Result<Snapshot> load_snapshot(const std::string& path, const std::string& settings, uint64_t steps,
                               AdamW& optimizer);

}  // namespace rwkv::press

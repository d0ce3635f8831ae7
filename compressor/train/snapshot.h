// A training's state on disk: a safetensors file per saved step, which has all that a bit-identical
// continuation needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "compressor/train/adamw.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct Snapshot {
  uint64_t step = 0;     ///< steps done
  double seconds = 0.0;  ///< spent so far, for the log
  std::string settings;  ///< of the training, to be the same on resume
};

/// Writes FOLDER/step-NNNNNNNN.safetensors whole or not at all, then removes all but the newest
/// two. No space left is a Failed status; earlier snapshots are kept.
Status save_snapshot(const std::string& folder, const Snapshot& state, AdamW& optimizer);

/// The path of the newest snapshot, if there is one. Failed if the folder cannot be listed.
Result<std::optional<std::string>> newest_snapshot(const std::string& folder);

/// Reads it into the optimiser and its parameters. BadInput if the file is damaged or belongs to
/// other parameters; Usage, with the setting that differs, if `settings` are not those it was saved
/// with.
Result<Snapshot> load_snapshot(const std::string& path, const std::string& settings,
                               AdamW& optimizer);

}  // namespace rwkv::press

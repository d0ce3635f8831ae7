// The steps of one block's training.
#pragma once

#include "compressor/train/block_result.h"
#include "compressor/train/block_streams.h"
#include "compressor/train/block_trainer.h"

namespace rwkv::press {

/// The files that a block learns from.
struct BlockFiles {
  ActivationFile inputs;
  std::optional<ActivationFile> first_values;  ///< v7's, for blocks after the first
  ActivationFile targets;
};

struct BlockSteps {
  const BlockJob& job;
  const BlockStreams& streams;
  BlockFiles files;
  int64_t index = 0;
  uint64_t n_sequences = 0;
  Network::IsTrainable is_trainable;
  std::string settings;  ///< of this block's training
  std::string folder;    ///< for snapshots
  int threads = 1;
  uint64_t steps_before = 0, steps_of_all = 0;  ///< for reports

  /// Trains from the newest snapshot on. Nothing if a callback ended it, after a snapshot; `step`
  /// is then the last one.
  Result<std::optional<BlockResult>> run(uint64_t& step) const;
};

}  // namespace rwkv::press

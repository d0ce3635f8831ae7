// Settings of a training block by block, for the stage `train` of recipes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/options/settings.h"

namespace rwkv::press {

struct BlockOptions {
  uint64_t steps = 200;         ///< of the optimiser, for each block
  double learning_rate = 2e-3;  ///< after the warm-up; it ends at the share that a whole one does
  uint64_t sequences = 0;       ///< that all blocks learn from; 0: every step has new ones
  std::string from = "student";
  double state_weight = 0.1;  ///< of the state's error, relative to the output's

  /// Whether a block's inputs are the teacher's: then no block depends on another.
  bool is_independent() const { return from == "teacher"; }
};

/// Part `index` of `n` of the blocks: those whose number has this remainder.
struct BlockShard {
  uint64_t index = 0;  ///< from 0
  uint64_t n = 1;
};

/// "2/8", the second of eight. Usage for anything else.
Result<BlockShard> parse_block_shard(const std::string& text);

/// The settings that `train` has with mode: blocks. `shown`: whether they are printed.
std::vector<Setting> block_settings(BlockOptions& options, bool shown);

}  // namespace rwkv::press

// The widths of pieces within a share of the bytes that they take at full width.
#pragma once

#include <cstdint>
#include <vector>

#include "compressor/stages/plan.h"
#include "compressor/stages/shard_losses.h"
#include "formats/container/width_choice.h"

namespace rwkv::press {

/// Every piece of plan.shards with what it may be: full width, then what the plan has.
struct PieceOptions {
  std::vector<std::vector<WidthOption>> of_pieces;
  std::vector<std::vector<uint32_t>> widths;  ///< of each option, 0: full
  uint64_t full_bytes = 0;
  uint64_t least_bytes = 0;
};
PieceOptions options_of(const PackPlan& plan);

struct ChosenWidths {
  ShardChoice widths;
  uint64_t bytes = 0;
  double loss = 0;  ///< expected: the sum over the pieces
};
/// As a device chooses them.
ChosenWidths choose_within(const PackPlan& plan, const PieceOptions& options, double share);

}  // namespace rwkv::press

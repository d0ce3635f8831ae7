// What stages have in common when they state their needs: sizes of a plan, and the walk over the
// blocks. From shapes alone; few constants, each beside what it counts.
#pragma once

#include <cstdint>

#include "compressor/numerics/needs.h"
#include "compressor/stages/plan.h"

namespace rwkv::press {

/// What a stage will find.
struct StageSubject {
  const PackPlan& plan;      ///< before the stage
  const PackPlan& original;  ///< of the model that the recipe starts with
  uint64_t tokens = 0;       ///< of the calibration text, samples * length; 0: no text
  bool has_moments = false;  ///< a file has the moments of inputs
  bool has_hidden = false;   ///< an earlier stage has left the activations after the last block
};

/// Sizes of a plan's matrices.
struct PlanSizes {
  uint64_t all = 0;            ///< elements of all tensors
  uint64_t blocks = 0;         ///< of those in blocks
  uint64_t largest_block = 0;  ///< of the largest block
  uint64_t largest = 0;        ///< of the largest tensor
  static PlanSizes of(const PackPlan& plan);
};

/// One walk of the calibration tokens through all blocks, as `BlockWalk` makes it: activations, the
/// current block and its forward pass, on one thread.
Needs walk_needs(const StageSubject& subject);
/// Moments of the inputs of the products of every block, on all threads; without the walk.
Needs moments_needs(const StageSubject& subject);

}  // namespace rwkv::press

// Curves by estimates, for models that are too large to measure each choice from end to end: the
// loss of a setting of a matrix from the change of its product's outputs (output_errors.h), times a
// scale that some choices, drawn at random and measured from end to end, tell. One walk over the
// blocks, one block in memory at a time, on all threads.
#pragma once

#include "compressor/planner/curves.h"

namespace rwkv::press {

/// Pairs are whitened, without a diagonal. The loss of a uniform recipe is the sum of its parts'.
/// The same input gives the same curves with any number of threads. Goes on from `begun`, which an
/// interrupted call saved: finished matrices are not estimated again.
Result<Curves> estimate_curves(const PlanSubject& subject, const CurveOptions& options,
                               Curves begun = {});

}  // namespace rwkv::press

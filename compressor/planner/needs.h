// How a plan is made for a model of some size, and what that will take, from shapes alone.
#pragma once

#include "compressor/estimate/estimate.h"
#include "compressor/recipe/recipe.h"
#include "formats/arch/identify.h"

namespace rwkv::press {

/// Whether the losses of matrices are estimated: measuring takes a run of the model for each
/// setting of each matrix.
bool is_estimated(const Budget& budget, const Identified& model);
/// Tokens that estimates are of, at most: 2048, more for smaller models.
uint64_t estimated_tokens(const Identified& model);
/// Whether the plan is packed and measured, which takes a conversion.
bool is_checked(const Budget& budget, const Identified& model);

/// The stages of planning for `recipe`, which has a budget: gradients, curves of matrices,
/// predictors, head, the search and the check of the result; or, where losses are measured, codes
/// and curves instead of the first four. `source_bytes`: of the checkpoint.
Result<WorkEstimate> estimate_plan(const Recipe& recipe, const Identified& model,
                                   uint64_t source_bytes);

}  // namespace rwkv::press

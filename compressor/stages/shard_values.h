// The values of matrices at several widths, for who computes with them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "compressor/stages/work.h"

namespace rwkv::press {

/// A matrix of work.plan.shards with its tensor. Valid while the plan does not change.
struct ShardView {
  const PlannedTensor* tensor = nullptr;
  PlannedShards::Matrix* shards = nullptr;
  std::vector<RowRange> pieces = {};
  int64_t rows_along = 0;  ///< the dimension of [out, in] that the packed rows are
};
std::vector<ShardView> shard_views(PackPlan& plan);

/// f32 [out, in], from the codes in work.source: `width` 0 at full width, 1 at the first of the
/// plan's widths; zeros where the width leaves pieces out.
Result<at::Tensor> values_at(const Work& work, const ShardView& view, size_t width);

/// Rows of a matrix at a narrower width.
struct NarrowPiece {
  int64_t first = 0;  ///< of the matrix, along ShardView::rows_along
  int64_t rows = 0;
  at::Tensor values;       ///< f32
  double* loss = nullptr;  ///< of the plan
};
/// Calls `visit` for every piece at every width that the plan has of it; the width's values of the
/// whole matrix are in memory meanwhile. Ends with the first error.
Status each_narrow_piece(const Work& work, const ShardView& view,
                         const std::function<Status(const NarrowPiece&)>& visit);

/// The calibration tokens that losses are of: whole samples, at most `most` tokens.
at::Tensor loss_tokens(const Work& work, int64_t most);

}  // namespace rwkv::press

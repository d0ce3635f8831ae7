#include "compressor/stages/shard_values.h"

#include <algorithm>

#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/shard_plan.h"
#include "formats/container/shard_index.h"

namespace rwkv::press {

std::vector<ShardView> shard_views(PackPlan& plan) {
  std::vector<ShardView> views;
  for (PlannedShards::Matrix& matrix : plan.shards.matrices) {
    const PlannedTensor* const tensor = plan.find(matrix.name);
    views.push_back({tensor, &matrix, pieces_of(tensor->binding.packed_rows(), matrix.piece_rows),
                     row_dimension(tensor->binding)});
  }
  return views;
}

Result<at::Tensor> values_at(const Work& work, const ShardView& view, size_t width) {
  const std::string& name = view.shards->name;
  const std::vector<int64_t> shape(view.tensor->binding.shape.begin(),
                                   view.tensor->binding.shape.end());
  if (width > 0 && view.shards->codecs[width - 1] == Codec::F32) {
    return at::zeros(shape, at::kFloat);
  }
  RWKV_ASSIGN(
      const at::Tensor values,
      load_named(*work.source,
                 width == 0 ? name : narrow_copy_name(name, work.plan.shards.widths[width - 1])));
  return values.reshape(shape);
}

Status each_narrow_piece(const Work& work, const ShardView& view,
                         const std::function<Status(const NarrowPiece&)>& visit) {
  const size_t n = work.plan.shards.widths.size();
  for (size_t w = 0; w < n; ++w) {
    if (view.shards->losses[w] == PlannedShards::kAbsent) {
      continue;  // of all pieces
    }
    RWKV_ASSIGN(const at::Tensor narrow, values_at(work, view, w + 1));
    for (size_t p = 0; p < view.pieces.size(); ++p) {
      const auto first = static_cast<int64_t>(view.pieces[p].first);
      const auto rows = static_cast<int64_t>(view.pieces[p].n);
      RWKV_TRY(visit({first, rows, narrow.narrow(view.rows_along, first, rows),
                      &view.shards->losses[p * n + w]}));
    }
  }
  return {};
}

at::Tensor loss_tokens(const Work& work, int64_t most) {
  const at::Tensor& tokens = work.calibration->tokens;
  const int64_t n = std::clamp<int64_t>(most / tokens.size(1), 1, tokens.size(0));
  return tokens.narrow(0, 0, n).contiguous();
}

}  // namespace rwkv::press

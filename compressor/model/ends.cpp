#include "compressor/model/ends.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "compressor/checkpoint/tensor.h"
#include "compressor/model/elementwise.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// The rows of emb.weight for `ids`, ln0 applied, in their order.
Result<at::Tensor> embedding_rows(const TensorSource& source, const ModelConfig& config,
                                  const std::vector<int64_t>& ids) {
  const std::optional<size_t> table = find_tensor(source, "emb.weight");
  if (!table) {
    return bad_input("{}: tensor 'emb.weight' is missing", source.path());
  }
  const at::Tensor rows = at::empty(
      {static_cast<int64_t>(ids.size()), static_cast<int64_t>(config.n_embd)}, at::kFloat);
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t first = static_cast<uint64_t>(ids[i]) * config.n_embd;
    RWKV_ASSIGN(const at::Tensor row, load_f32_range(source, *table, first, config.n_embd));
    rows[static_cast<int64_t>(i)].copy_(row);
  }
  if (config.ln0_folded) {
    return rows;
  }
  RWKV_ASSIGN(const LayerNorm ln0, load_layer_norm(NamedTensors(source), "blocks.0.ln0"));
  return ln0.apply(rows);
}

}  // namespace

Result<at::Tensor> embed(const TensorSource& source, const ModelConfig& config,
                         const at::Tensor& tokens) {
  const at::NoGradGuard no_grad;
  const at::Tensor flat = tokens.reshape({-1}).contiguous();
  const int64_t* ids = flat.data_ptr<int64_t>();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    if (ids[i] < 0 || static_cast<uint64_t>(ids[i]) >= config.n_vocab) {
      return bad_input("token {} of the input has id {}, the vocabulary ends at {}", i, ids[i],
                       config.n_vocab - 1);
    }
  }
  std::vector<int64_t> distinct(ids, ids + flat.numel());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  RWKV_ASSIGN(const at::Tensor rows, embedding_rows(source, config, distinct));
  const at::Tensor row_of = at::empty_like(flat);
  std::transform(ids, ids + flat.numel(), row_of.data_ptr<int64_t>(), [&](int64_t id) {
    return std::lower_bound(distinct.begin(), distinct.end(), id) - distinct.begin();
  });
  return rows.index_select(0, row_of).reshape({tokens.size(0), tokens.size(1), -1});
}

Result<at::Tensor> head_input(const TensorSource& source, const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  RWKV_ASSIGN(const LayerNorm ln_out, load_layer_norm(NamedTensors(source), "ln_out"));
  return ln_out.apply(hidden);
}

}  // namespace rwkv::press

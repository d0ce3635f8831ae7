// Losses of pieces by estimates, and random ones.
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <map>

#include "compressor/calibrate/output_errors.h"
#include "compressor/calibrate/sensitivity.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/stages/block_walk.h"
#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/shard_losses.h"
#include "compressor/stages/shard_values.h"

namespace rwkv::press {
namespace {

constexpr int64_t kMostTokens = 8192;
constexpr int64_t kLeastTokens = 1024;
// Of the gradients that are held.
constexpr int64_t kGradientBytes = int64_t{1} << 29;

class Estimator {
 public:
  explicit Estimator(Work& work)
      : work_(work), config_(work.plan.config), views_(shard_views(work.plan)) {
    config_.ln0_folded = false;  // as the source gives it
  }
  Status run();

 private:
  int64_t n_tokens() const;
  Status estimate(const ShardView& view, const ProductSeen& seen);
  Status estimate_head(const ShardView& view, const at::Tensor& hidden);
  ProductSeen seen_by(const ShardView& view, const Linear& linear, const at::Tensor& inputs,
                      const at::Tensor& gradients) const;
  template <typename F>
  Status each_width(const ShardView& view, const F& loss_of);

  Work& work_;
  ModelConfig config_;
  std::vector<ShardView> views_;
};

// As many as their gradients leave room for, within bounds.
int64_t Estimator::n_tokens() const {
  int64_t outputs = 0;
  for (const PlannedTensor& tensor : work_.plan.tensors) {
    outputs += has_product(tensor.binding) && tensor.binding.block >= 0
                   ? static_cast<int64_t>(tensor.binding.shape[0])
                   : 0;
  }
  const int64_t bytes_each = 2 * std::max<int64_t>(1, outputs);
  return std::clamp(kGradientBytes / bytes_each, kLeastTokens, kMostTokens);
}

// `loss_of(rows, values, change)`: of a piece, with its values at full width and their change.
template <typename F>
Status Estimator::each_width(const ShardView& view, const F& loss_of) {
  RWKV_ASSIGN(const at::Tensor full, values_at(work_, view, 0));
  return each_narrow_piece(work_, view, [&](const NarrowPiece& piece) -> Status {
    const at::Tensor own = full.narrow(view.rows_along, piece.first, piece.rows);
    *piece.loss = loss_of(piece.first, own, piece.values - own);
    return {};
  });
}

// The first factor of a pair has the outputs that lie between both, and the second their inputs.
ProductSeen Estimator::seen_by(const ShardView& view, const Linear& linear,
                               const at::Tensor& inputs, const at::Tensor& gradients) const {
  switch (view.tensor->binding.part) {
    case Part::FactorA: {
      at::Tensor inner = product_in_tiles(gradients.to(at::kFloat), linear.factor_b.t());
      if (linear.squares) {
        inner = inner * product_in_tiles(inputs, linear.factor_a).relu() * 2;
      }
      return {inputs, inner};
    }
    case Part::FactorB:
      return {inputs_of_second(linear, inputs), gradients};
    case Part::Dense:
    case Part::Diagonal:
      break;
  }
  return {inputs, gradients};
}

Status Estimator::estimate(const ShardView& view, const ProductSeen& seen) {
  const bool is_by_input = view.rows_along == 1;
  return each_width(view, [&](int64_t first, const at::Tensor&, const at::Tensor& change) {
    const int64_t n = change.size(view.rows_along);
    const ProductSeen own = {is_by_input ? seen.inputs.narrow(1, first, n) : seen.inputs,
                             is_by_input ? seen.gradients : seen.gradients.narrow(1, first, n)};
    return rounding_distance(own, change, Tail::Cut);
  });
}

Status Estimator::estimate_head(const ShardView& view, const at::Tensor& hidden) {
  RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, hidden));
  RWKV_ASSIGN(const at::Tensor head, values_at(work_, view, 0));
  const HeadSeen seen = HeadSeen::of(z, head);
  return each_width(view, [&](int64_t, const at::Tensor& rows, const at::Tensor& change) {
    return head_rows_distance(seen, rows, change);
  });
}

Status Estimator::run() {
  const at::NoGradGuard no_grad;
  const at::Tensor tokens = loss_tokens(work_, n_tokens());
  RWKV_ASSIGN(Sensitivity sensitivity,
              measure_sensitivity(*work_.source, config_, tokens, work_.seed,
                                  [&](double share) { work_.progress("gradients", share); }));
  RWKV_ASSIGN(Walk walk, Walk::begin(*work_.source, config_, tokens));
  for (int64_t i = 0; i < static_cast<int64_t>(config_.n_layer); ++i) {
    RWKV_ASSIGN(const std::unique_ptr<Block> block, Block::load(*work_.source, config_, i));
    Walk::Products products;
    for (const ShardView& view : views_) {
      if (view.tensor->binding.block == i) {
        products.push_back(product_of(view.tensor->binding));
      }
    }
    std::map<std::string, std::vector<at::Tensor>> inputs;
    walk.advance(
        *block,
        [&](const std::string& product, const at::Tensor& x) { inputs[product].push_back(x); },
        products);
    auto& gradients = sensitivity.products[static_cast<size_t>(i)];
    for (const ShardView& view : views_) {
      if (view.tensor->binding.block == i) {
        const std::string product = product_of(view.tensor->binding);
        RWKV_TRY(estimate(view, seen_by(view, block->linears.at(product),
                                        at::cat(inputs.at(product), 0), gradients.at(product))));
      }
    }
    gradients.clear();
    work_.progress("importance", Share::of_blocks(static_cast<uint64_t>(i) + 1, config_.n_layer));
  }
  for (const ShardView& view : views_) {
    if (view.tensor->binding.block < 0) {
      RWKV_TRY(estimate_head(view, walk.hidden()));
    }
  }
  return {};
}

}  // namespace

Status estimate_shard_losses(Work& work) {
  return Estimator(work).run();
}

void draw_shard_losses(Work& work) {
  SplitMixRandom random(work.seed);
  const PlannedShards& shards = work.plan.shards;
  const size_t n = shards.widths.size();
  for (const ShardView& view : shard_views(work.plan)) {
    for (size_t p = 0; p < view.pieces.size(); ++p) {
      // Over three decades, as measured ones are.
      const double weight =
          std::pow(10.0, 3 * random.uniform()) *
          static_cast<double>(view.pieces[p].n * view.tensor->binding.packed_cols());
      for (size_t w = 0; w < n; ++w) {
        double& loss = view.shards->losses[p * n + w];
        if (loss != PlannedShards::kAbsent) {
          const Codec codec = view.shards->codecs[w];
          const double bits = codec == Codec::F32 ? 0 : codec_traits(codec).bits;
          loss = weight * 1e-9 * std::pow(4.0, -bits);
        }
      }
    }
  }
}

}  // namespace rwkv::press

// Losses of pieces, measured: walks of the model with one piece changed, from the block where it
// changes.
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "compressor/calibrate/output_errors.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/block_walk.h"
#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/prediction_distance.h"
#include "compressor/stages/shard_losses.h"
#include "compressor/stages/shard_values.h"

namespace rwkv::press {
namespace {

constexpr int64_t kMostTokens = 4096;
constexpr const char* kHead = "head.weight";
// Changed models that are on their way at the same time: their activations are held.
constexpr size_t kAtOnce = 32;

// A model with one piece changed, on its way through the blocks.
struct Variant {
  Walk walk;
  double* loss;
};

class ShardMeter {
 public:
  explicit ShardMeter(Work& work)
      : work_(work), config_(work.plan.config), views_(shard_views(work.plan)) {
    config_.ln0_folded = false;  // as the source gives it
  }
  Status begin();
  Status measure_pieces();
  Result<double> measure(const ShardChoice& choice);

 private:
  Result<std::unique_ptr<Block>> block(int64_t index) const {
    return Block::load(*work_.source, config_, index);
  }
  Status measure_block(int64_t index, const Walk& before);
  Status measure_head(const ShardView& view);
  Status finish(int64_t index);
  Result<at::Tensor> mixed(const ShardView& view, const std::vector<uint32_t>& widths) const;

  Work& work_;
  ModelConfig config_;
  std::vector<ShardView> views_;
  at::Tensor tokens_;
  at::Tensor z_;  // what the head sees in the model at full width
  at::Tensor head_;
  std::vector<Variant> variants_;
};

Status ShardMeter::begin() {
  tokens_ = loss_tokens(work_, kMostTokens);
  RWKV_ASSIGN(head_, load_named(*work_.source, kHead));
  RWKV_ASSIGN(Walk walk, Walk::begin(*work_.source, config_, tokens_));
  for (int64_t i = 0; i < static_cast<int64_t>(config_.n_layer); ++i) {
    RWKV_ASSIGN(const auto own, block(i));
    walk.advance(*own, {});
  }
  RWKV_ASSIGN(z_, head_input(*work_.source, walk.hidden()));
  return {};
}

// The rest of the way, for all variants together, after block `index`.
Status ShardMeter::finish(int64_t index) {
  for (int64_t i = index + 1; !variants_.empty() && i < static_cast<int64_t>(config_.n_layer);
       ++i) {
    RWKV_ASSIGN(const auto later, block(i));
    for (Variant& variant : variants_) {
      variant.walk.advance(*later, {});
    }
  }
  for (const Variant& variant : variants_) {
    RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, variant.walk.hidden()));
    *variant.loss = std::max(0.0, prediction_distance(z_, head_, z, head_));
  }
  variants_.clear();
  return {};
}

Status ShardMeter::measure_block(int64_t index, const Walk& before) {
  RWKV_ASSIGN(const auto own, block(index));
  for (const ShardView& view : views_) {
    if (view.tensor->binding.block != index) {
      continue;
    }
    at::Tensor& member = *member_of(*own, view.tensor->binding);
    const at::Tensor full = member;
    RWKV_TRY(each_narrow_piece(work_, view, [&](const NarrowPiece& piece) -> Status {
      member = full.clone();
      member.narrow(view.rows_along, piece.first, piece.rows).copy_(piece.values);
      variants_.push_back({before, piece.loss});
      variants_.back().walk.advance(*own, {});
      member = full;
      return variants_.size() == kAtOnce ? finish(index) : Status();
    }));
  }
  return finish(index);
}

// Exact, without a run of the model.
Status ShardMeter::measure_head(const ShardView& view) {
  const HeadSeen seen = HeadSeen::of(z_, head_);
  return each_narrow_piece(work_, view, [&](const NarrowPiece& piece) -> Status {
    const at::Tensor own = head_.narrow(0, piece.first, piece.rows);
    *piece.loss = head_rows_distance(seen, own, piece.values - own);
    return {};
  });
}

Status ShardMeter::measure_pieces() {
  RWKV_ASSIGN(Walk walk, Walk::begin(*work_.source, config_, tokens_));
  for (int64_t i = 0; i < static_cast<int64_t>(config_.n_layer); ++i) {
    RWKV_TRY(measure_block(i, walk));
    RWKV_ASSIGN(const auto own, block(i));
    walk.advance(*own, {});
    work_.progress("importance", Share::of_blocks(static_cast<uint64_t>(i) + 1, config_.n_layer));
  }
  for (const ShardView& view : views_) {
    if (view.tensor->binding.block < 0) {
      RWKV_TRY(measure_head(view));
    }
  }
  return {};
}

// The matrix with each piece at the width chosen for it.
Result<at::Tensor> ShardMeter::mixed(const ShardView& view,
                                     const std::vector<uint32_t>& widths) const {
  RWKV_ASSIGN(at::Tensor values, values_at(work_, view, 0));
  for (uint32_t w = 1; w <= work_.plan.shards.widths.size(); ++w) {
    if (std::find(widths.begin(), widths.end(), w) == widths.end()) {
      continue;
    }
    RWKV_ASSIGN(const at::Tensor narrow, values_at(work_, view, w));
    for (size_t p = 0; p < widths.size(); ++p) {
      if (widths[p] == w) {
        const auto first = static_cast<int64_t>(view.pieces[p].first);
        const auto rows = static_cast<int64_t>(view.pieces[p].n);
        values.narrow(view.rows_along, first, rows)
            .copy_(narrow.narrow(view.rows_along, first, rows));
      }
    }
  }
  return values;
}

Result<double> ShardMeter::measure(const ShardChoice& choice) {
  RWKV_ASSIGN(Walk walk, Walk::begin(*work_.source, config_, tokens_));
  at::Tensor head = head_;
  for (int64_t i = 0; i < static_cast<int64_t>(config_.n_layer); ++i) {
    RWKV_ASSIGN(const auto own, block(i));
    for (size_t m = 0; m < views_.size(); ++m) {
      if (views_[m].tensor->binding.block == i) {
        RWKV_ASSIGN(*member_of(*own, views_[m].tensor->binding), mixed(views_[m], choice[m]));
      }
    }
    walk.advance(*own, {});
  }
  for (size_t m = 0; m < views_.size(); ++m) {
    if (views_[m].tensor->binding.block < 0) {
      RWKV_ASSIGN(head, mixed(views_[m], choice[m]));
    }
  }
  RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, walk.hidden()));
  return std::max(0.0, prediction_distance(z_, head_, z, head));
}

}  // namespace

Status measure_shard_losses(Work& work) {
  const at::NoGradGuard no_grad;
  ShardMeter meter(work);
  RWKV_TRY(meter.begin());
  return meter.measure_pieces();
}

Result<double> measure_shard_choice(Work& work, const ShardChoice& choice) {
  const at::NoGradGuard no_grad;
  ShardMeter meter(work);
  RWKV_TRY(meter.begin());
  return meter.measure(choice);
}

}  // namespace rwkv::press

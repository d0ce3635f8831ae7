#include "compressor/planner/estimate_predictors.h"

#include <algorithm>
#include <limits>

#include "compressor/calibrate/output_errors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/predictors/predictor.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTile = 256;
constexpr int64_t kMostBlocks = 6;
constexpr float kNever = std::numeric_limits<float>::max();

// The neurons of a block over text.
struct Neurons {
  at::Tensor outputs;    // relu(k)^2, [n, neurons]
  at::Tensor gradients;  // of each neuron's output, [n, neurons]
  double active = 0;
};

Neurons neurons_of(const at::Tensor& key, const at::Tensor& value, const FfnSeen& seen) {
  const int64_t n = seen.inputs.size(0);
  Neurons neurons{at::empty({n, key.size(0)}, at::kFloat), at::empty({n, key.size(0)}, at::kFloat)};
  std::vector<double> active(static_cast<size_t>((n + kTile - 1) / kTile));
  in_tiles(n, kTile, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    const at::Tensor k = at::mm(seen.inputs.narrow(0, begin, count), key.t()).relu_().square_();
    active[static_cast<size_t>(begin / kTile)] = k.gt(0).sum().item<double>();
    neurons.outputs.narrow(0, begin, count).copy_(k);
    neurons.gradients.narrow(0, begin, count)
        .copy_(at::mm(seen.gradients.narrow(0, begin, count).to(at::kFloat), value));
  });
  for (const double part : active) {
    neurons.active += part / static_cast<double>(neurons.outputs.numel());
  }
  return neurons;
}

// What is missed, less its mean, which the stage adds to the outputs; then half the mean of (g
// d)^2.
RowsPoint point_of(const FfnPredictor& predictor, double recall, const FfnSeen& seen,
                   const Neurons& neurons) {
  const int64_t n = seen.inputs.size(0);
  const auto n_tiles = static_cast<size_t>((n + kTile - 1) / kTile);
  const at::Tensor missed = at::empty_like(neurons.outputs);
  std::vector<at::Tensor> sums(n_tiles);
  std::vector<double> read(n_tiles);
  in_tiles(n, kTile, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    const at::Tensor x = seen.inputs.narrow(0, begin, count);
    const at::Tensor outputs = neurons.outputs.narrow(0, begin, count);
    at::Tensor named = at::zeros(outputs.sizes(), at::kBool);
    if (predictor.thresholds.sign < kNever) {
      named.logical_or_(at::mm(x, predictor.sign.t()).gt(predictor.thresholds.sign));
    }
    if (predictor.thresholds.mlp < kNever) {
      named.logical_or_(predictor.mlp.scores(x).gt(predictor.thresholds.mlp));
    }
    // Rows of ffn.key that are named, and of ffn.value those of them that are not silent.
    read[static_cast<size_t>(begin / kTile)] =
        named.sum().item<double>() + named.logical_and(outputs.gt(0)).sum().item<double>();
    const at::Tensor own = missed.narrow(0, begin, count);
    own.copy_(outputs.masked_fill(named, 0));
    sums[static_cast<size_t>(begin / kTile)] = own.sum(0, false, at::kDouble);
  });
  at::Tensor mean = at::zeros({missed.size(1)}, at::kDouble);
  double n_read = 0;
  for (size_t i = 0; i < n_tiles; ++i) {
    mean.add_(sums[i]);
    n_read += read[i];
  }
  mean = mean.div_(static_cast<double>(n)).to(at::kFloat);
  const at::Tensor losses = at::empty({n}, at::kDouble);
  in_tiles(n, kTile, [&](int64_t begin, int64_t end) {
    const at::Tensor along = (mean - missed.narrow(0, begin, end - begin))
                                 .mul_(neurons.gradients.narrow(0, begin, end - begin))
                                 .sum(1, false, at::kDouble);
    losses.narrow(0, begin, end - begin).copy_(along.square_().div_(2));
  });
  RowsPoint point{.value = recall, .loss = mean_loss(losses, Tail::Cut)};
  point.share = n_read / 2 / static_cast<double>(missed.numel());
  point.halves = {static_cast<uint8_t>((predictor.thresholds.sign < kNever ? 1 : 0) |
                                       (predictor.thresholds.mlp < kNever ? 2 : 0))};
  return point;
}

}  // namespace

PredictorEstimate::PredictorEstimate(const PlanSubject& subject, bool with_predictors)
    : subject_(subject),
      n_blocks_(static_cast<int64_t>(subject.model.config.n_layer)),
      step_((n_blocks_ + kMostBlocks - 1) / kMostBlocks) {
  if (with_predictors) {
    recalls_.assign(planned_recalls().begin(), planned_recalls().end());
  }
}

Status PredictorEstimate::add(int64_t block, const Block& weights, const FfnSeen& seen) {
  const at::Tensor& key = weights.linears.at("ffn.key").dense;
  const at::Tensor& value = weights.linears.at("ffn.value").dense;
  const at::Tensor norms = value.square().sum(0).sqrt();
  const Neurons neurons = neurons_of(key, value, seen);
  PredictorOptions options;
  options.mlp_options.hidden = static_cast<int64_t>(subject_.frame.hidden);
  options.mlp_options.seed = subject_.frame.seed + static_cast<uint64_t>(block);
  Found& found = found_[block];
  found.active = neurons.active;
  for (const double recall : recalls_) {
    options.recall = recall;
    // Recalls share what training gives.
    RWKV_ASSIGN(const FfnPredictor predictor, fit_predictor(seen.learnt_from, key, norms, options,
                                                            TensorStore(subject_.shared_folder)));
    found.points.push_back(point_of(predictor, recall, seen, neurons));
    subject_.progress("predictors",
                      (static_cast<double>(block) + static_cast<double>(step_) *
                                                        static_cast<double>(found.points.size()) /
                                                        static_cast<double>(recalls_.size())) /
                          static_cast<double>(n_blocks_ + step_ - 1));
  }
  return {};
}

std::vector<RowsPoint> PredictorEstimate::points() const {
  std::vector<RowsPoint> points(1 + recalls_.size());
  const double part = 1 / static_cast<double>(n_blocks_);
  points[0].share = 0;
  for (size_t i = 1; i < points.size(); ++i) {
    points[i].value = recalls_[i - 1];
    points[i].share = 0;
  }
  for (int64_t block = 0; block < n_blocks_; ++block) {
    const Found& before = found_.at(block - block % step_);
    const auto next = found_.find(block - block % step_ + step_);
    const Found& after = next == found_.end() ? before : next->second;
    const double weight = static_cast<double>(block % step_) / static_cast<double>(step_);
    const auto between = [&](double low, double high) { return low + weight * (high - low); };
    // Without predictors all of ffn.key is read.
    points[0].share += part * (1 + between(before.active, after.active)) / 2;
    for (size_t i = 1; i < points.size(); ++i) {
      const RowsPoint& low = before.points[i - 1];
      const RowsPoint& high = after.points[i - 1];
      points[i].loss += between(low.loss, high.loss);
      points[i].share += part * between(low.share, high.share);
      // A half that a block may have takes memory.
      points[i].halves.push_back(block % step_ == 0 ? low.halves[0] : uint8_t{3});
    }
  }
  for (size_t i = 1; i < points.size(); ++i) {
    points[i].loss = at_least_lossy(points[i].loss);
    points[i].nats = points[i].loss;
  }
  return points;
}

}  // namespace rwkv::press

#include "compressor/predictors/mlp_predictor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/predictors/checks.h"
#include "compressor/predictors/mlp_trainer.h"
#include "compressor/predictors/thresholds.h"

namespace rwkv::press {
namespace {

// Fisher and Yates.
void shuffle(std::vector<int64_t>& values, SplitMixRandom& random) {
  for (size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[random.remainder(i)]);
  }
}

at::Tensor xavier(int64_t rows, int64_t columns, SplitMixRandom& random) {
  at::Tensor result = at::empty({rows, columns}, at::kFloat);
  const double bound = std::sqrt(6.0 / static_cast<double>(rows + columns));
  std::generate_n(result.data_ptr<float>(), result.numel(),
                  [&] { return static_cast<float>((2 * random.uniform() - 1) * bound); });
  return result;
}

MlpTargets make_targets(const at::Tensor& x, const at::Tensor& key, const at::Tensor& norms,
                        double exponent) {
  constexpr int64_t kSlice = 256;
  constexpr double kLeast = 1e-4;  // a positive must not become a negative
  constexpr double kMost = 6e4;
  const auto neurons = static_cast<double>(key.size(0));
  MlpTargets result{at::empty({x.size(0), key.size(0)}, at::kBFloat16)};
  const auto n_slices = static_cast<size_t>((x.size(0) + kSlice - 1) / kSlice);
  std::vector<double> positives(n_slices);
  std::vector<double> totals(n_slices);
  in_tiles(x.size(0), kSlice, [&](int64_t first, int64_t end) {
    const at::Tensor k = at::mm(x.narrow(0, first, end - first), key.t());
    at::Tensor weights = energy_shares(k, norms).mul_(neurons);
    const at::Tensor is_active = at::gt(k, 0);
    weights.pow_(exponent).clamp_(kLeast, kMost).mul_(is_active);
    const auto slice = static_cast<size_t>(first / kSlice);
    positives[slice] = is_active.sum().item<double>();
    totals[slice] = weights.sum(at::kDouble).item<double>();
    result.weights.narrow(0, first, end - first).copy_(weights);
  });
  const double active = std::accumulate(positives.begin(), positives.end(), 0.0);
  const double total = std::accumulate(totals.begin(), totals.end(), 0.0);
  const double all = static_cast<double>(x.size(0)) * neurons;
  result.active = active / all;
  // negatives / positives / mean weight; layers that are all on or all off have nothing to balance.
  result.balance = total > 0 && active < all ? (all - active) / total : 1;
  return result;
}

// Energy kept on held-out tokens if the `load` highest logits of all are named.
double kept_energy(const at::Tensor& logits, const at::Tensor& shares, double load) {
  const float* scores = logits.data_ptr<float>();
  std::vector<float> sorted(scores, scores + logits.numel());
  const auto rank = static_cast<int64_t>(load * static_cast<double>(logits.numel()));
  const auto at = sorted.begin() + std::clamp<int64_t>(rank, 0, logits.numel() - 1);
  std::nth_element(sorted.begin(), at, sorted.end(), std::greater<>());
  return shares.mul(at::gt(logits, *at)).sum(at::kDouble).item<double>();
}

at::Tensor channel_scales(const at::Tensor& x) {
  // Channels that are nearly silent are not blown up: f16 must hold fc1.
  constexpr double kFloor = 1e-2;
  const at::Tensor squares = x.square().mean(0);
  const double all = std::sqrt(squares.mean().item<double>());
  return all > 0 ? squares.sqrt_().clamp_min_(kFloor * all) : at::ones_like(squares);
}

struct Split {
  at::Tensor train, held_out, held_out_shares;
};

Split split(const at::Tensor& x, const at::Tensor& key, const at::Tensor& norms) {
  constexpr int64_t kMaxTargets = int64_t{1} << 28;
  constexpr int64_t kMaxHeldOut = int64_t{1} << 22;
  const int64_t held_out = x.size(0) / 10;
  const auto fits = [&](int64_t limit) { return std::max<int64_t>(limit / key.size(0), 256); };
  Split result;
  result.train = even_rows(x.narrow(0, 0, x.size(0) - held_out), fits(kMaxTargets));
  result.held_out = even_rows(x.narrow(0, x.size(0) - held_out, held_out), fits(kMaxHeldOut));
  result.held_out_shares = energy_shares(product_in_tiles(result.held_out, key), norms);
  return result;
}

}  // namespace

at::Tensor MlpPredictor::scores(const at::Tensor& x) const {
  return product_in_tiles(product_in_tiles(x, fc1).relu_(), fc2);
}

Status check_mlp_options(const MlpOptions& options, int64_t channels) {
  if (options.hidden < 1 || options.hidden > 4 * channels) {
    return usage_error("MLP predictor: hidden is {}; expected 1 to {} (4 times the channels)",
                       options.hidden, 4 * channels);
  }
  if (options.epochs < 1 || options.batch < 1) {
    return usage_error("MLP predictor: {} epochs in batches of {}; expected at least 1 of each",
                       options.epochs, options.batch);
  }
  if (!(options.learning_rate > 0 && options.learning_rate <= 1)) {
    return usage_error("MLP predictor: learning rate {}; expected more than 0 and at most 1",
                       options.learning_rate);
  }
  if (!(options.importance >= 0 && options.importance <= 1)) {
    return usage_error("MLP predictor: importance {}; expected 0 to 1", options.importance);
  }
  if (!(options.load >= 0 && options.load <= 1)) {
    return usage_error("MLP predictor: load {}; expected 0 (automatic) to 1", options.load);
  }
  return {};
}

Result<MlpPredictor> train_mlp(const at::Tensor& x, const at::Tensor& key,
                               const at::Tensor& value_norms, const MlpOptions& options) {
  RWKV_TRY(check_layer(x, key, value_norms));
  RWKV_TRY(check_mlp_options(options, x.size(1)));
  return train_checked_mlp(x, key, value_norms, options);
}

MlpPredictor train_checked_mlp(const at::Tensor& x, const at::Tensor& key,
                               const at::Tensor& value_norms, const MlpOptions& options) {
  constexpr double kWidth = 64;  // channels at which both matrices learn at the same rate
  const Split data = split(x, key, value_norms);
  const MlpTargets targets = make_targets(data.train, key, value_norms, options.importance);
  const double load = options.load > 0 ? options.load : targets.active;
  const at::Tensor scales = channel_scales(data.train);
  const at::Tensor inputs = data.train.div(scales);
  const at::Tensor held_out = data.held_out.div(scales);
  const double slower = std::sqrt(kWidth / static_cast<double>(key.size(1)));

  SplitMixRandom random(options.seed);
  const at::Tensor fc1 = xavier(options.hidden, key.size(1), random);
  MlpTrainer trainer(fc1, xavier(key.size(0), options.hidden, random), inputs, targets);
  std::vector<int64_t> order(static_cast<size_t>(inputs.size(0)));
  std::iota(order.begin(), order.end(), 0);
  const int64_t steps = (inputs.size(0) + options.batch - 1) / options.batch;
  MlpPredictor best;
  double best_kept = -1;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    shuffle(order, random);
    for (int64_t step = 0; step < steps; ++step) {
      const double done =
          static_cast<double>(epoch * steps + step) / static_cast<double>(options.epochs * steps);
      const double rate = options.learning_rate * 0.5 * (1 + std::cos(std::numbers::pi * done));
      const int64_t first = step * options.batch;
      trainer.step(order.data() + first, std::min(options.batch, inputs.size(0) - first),
                   rate * slower, rate);
    }
    const MlpPredictor now{trainer.fc1(), trainer.fc2()};
    const double kept = kept_energy(now.scores(held_out), data.held_out_shares, load);
    if (kept > best_kept) {
      best_kept = kept;
      best = {trainer.fc1().div(scales), trainer.fc2().clone()};
    }
  }
  return best;
}

}  // namespace rwkv::press

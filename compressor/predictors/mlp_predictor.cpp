#include "compressor/predictors/mlp_predictor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

#include "compressor/numerics/adam.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/predictors/checks.h"
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

// The targets of the loss for each token and neuron: 0 for negatives, else s^p in units of a mean
// share.
struct Targets {
  at::Tensor weights;  // [n, F] f16
  double balance = 1;  // what positives are multiplied with, so that both labels weigh the same
  double active = 0;   // share of positives
};

Targets make_targets(const at::Tensor& x, const at::Tensor& key, const at::Tensor& norms,
                     double exponent) {
  constexpr int64_t kSlice = 512;
  constexpr double kLeast = 1e-4;  // a normal f16 number: a positive must not become a negative
  constexpr double kMost = 6e4;
  const auto neurons = static_cast<double>(key.size(0));
  Targets result{at::empty({x.size(0), key.size(0)}, at::kHalf)};
  double positives = 0;
  double total = 0;
  for (int64_t first = 0; first < x.size(0); first += kSlice) {
    const int64_t rows = std::min(kSlice, x.size(0) - first);
    const at::Tensor k = at::mm(x.narrow(0, first, rows), key.t());
    at::Tensor weights = energy_shares(k, norms).mul_(neurons);
    weights.pow_(exponent).clamp_(kLeast, kMost).mul_(at::gt(k, 0));
    positives += at::gt(k, 0).sum().item<double>();
    total += weights.sum(at::kDouble).item<double>();
    result.weights.narrow(0, first, rows).copy_(weights);
  }
  const double all = static_cast<double>(x.size(0)) * neurons;
  result.active = positives / all;
  // negatives / positives / mean weight; layers that are all on or all off have nothing to balance.
  result.balance = total > 0 && positives < all ? (all - positives) / total : 1;
  return result;
}

// d loss / d logits from sigmoid(logits), in place: sigmoid - label, times the weight.
void weigh_errors(at::Tensor& sigmoids, const at::Tensor& weights, double balance, double scale) {
  float* error = sigmoids.data_ptr<float>();
  const float* weight = weights.data_ptr<float>();
  const auto positive = static_cast<float>(balance * scale);
  const auto negative = static_cast<float>(scale);
  for (int64_t i = 0; i < sigmoids.numel(); ++i) {
    const float on = weight[i] * positive * (error[i] - 1);
    const float off = error[i] * negative;
    error[i] = weight[i] > 0 ? on : off;
  }
}

// One step's gradients by hand: d loss / d fc2 = E^T h, d loss / d fc1 = ((E fc2) * [h > 0])^T x.
class Trainer {
 public:
  Trainer(int64_t neurons, int64_t channels, const MlpOptions& options, SplitMixRandom& random)
      : net_{xavier(options.hidden, channels, random), xavier(neurons, options.hidden, random)},
        fc1_(net_.fc1, kAdam),
        fc2_(net_.fc2, kAdam) {}

  void step(const at::Tensor& x, const at::Tensor& weights, double balance, double rate) {
    constexpr double kWidth = 64;  // channels at which both matrices learn at the same rate
    const at::Tensor hidden = at::mm(x, net_.fc1.t()).relu_();
    at::Tensor error = at::mm(hidden, net_.fc2.t()).sigmoid_();
    weigh_errors(error, weights, balance, 1.0 / static_cast<double>(x.size(0)));
    const at::Tensor gradient2 = at::mm(error.t(), hidden);
    const at::Tensor back = at::mm(error, net_.fc2).mul_(at::gt(hidden, 0));
    ++steps_;
    const double rate1 = rate * std::sqrt(kWidth / static_cast<double>(x.size(1)));
    fc1_.step(at::mm(back.t(), x), {.number = steps_, .rate = rate1});
    fc2_.step(gradient2, {.number = steps_, .rate = rate});
  }

  const MlpPredictor& net() const { return net_; }

 private:
  static constexpr AdamOptions kAdam{.mean = AdamOptions::Mean::TensorWise};
  MlpPredictor net_;
  Adam fc1_, fc2_;
  uint64_t steps_ = 0;
};

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
  result.held_out_shares = energy_shares(at::mm(result.held_out, key.t()), norms);
  return result;
}

}  // namespace

at::Tensor MlpPredictor::scores(const at::Tensor& x) const {
  return at::mm(at::mm(x, fc1.t()).relu_(), fc2.t());
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
  const SingleThread single;
  const Split data = split(x, key, value_norms);
  const Targets targets = make_targets(data.train, key, value_norms, options.importance);
  const double load = options.load > 0 ? options.load : targets.active;
  const at::Tensor scales = channel_scales(data.train);
  const at::Tensor inputs = data.train.div(scales);
  const at::Tensor held_out = data.held_out.div(scales);

  SplitMixRandom random(options.seed);
  Trainer trainer(key.size(0), key.size(1), options, random);
  std::vector<int64_t> order(static_cast<size_t>(inputs.size(0)));
  std::iota(order.begin(), order.end(), 0);
  const int64_t steps = (inputs.size(0) + options.batch - 1) / options.batch;
  MlpPredictor best;
  double best_kept = -1;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    shuffle(order, random);
    const at::Tensor index = at::from_blob(order.data(), {inputs.size(0)}, at::kLong);
    for (int64_t step = 0; step < steps; ++step) {
      const double done =
          static_cast<double>(epoch * steps + step) / static_cast<double>(options.epochs * steps);
      const double rate = options.learning_rate * 0.5 * (1 + std::cos(std::numbers::pi * done));
      const int64_t first = step * options.batch;
      const at::Tensor rows =
          index.narrow(0, first, std::min(options.batch, inputs.size(0) - first));
      trainer.step(inputs.index_select(0, rows),
                   targets.weights.index_select(0, rows).to(at::kFloat), targets.balance, rate);
    }
    const double kept = kept_energy(trainer.net().scores(held_out), data.held_out_shares, load);
    if (kept > best_kept) {
      best_kept = kept;
      best = {trainer.net().fc1.div(scales), trainer.net().fc2.clone()};
    }
  }
  return best;
}

}  // namespace rwkv::press

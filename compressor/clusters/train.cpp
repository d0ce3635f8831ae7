// Training of the cluster head, with gradients written out: those of KL(P || softmax(l)) with
// respect to the logits l are softmax(l) - P.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "compressor/clusters/fit.h"
#include "compressor/numerics/adam.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTileSamples = 64;
constexpr int64_t kTileClusters = 32;
// A step of Adam moves every weight by about the rate, and so a logit by up to rate * D: the rate
// is for this many columns. With 768 columns 3e-3 gained nothing over the closed form, 1e-4 to 1e-3
// did.
constexpr double kRateColumns = 128;

ClusterHead copy_of(const ClusterHead& head) {
  return {head.weight.clone(), head.bias.clone()};
}

// Mean gradients over the samples `index` [n].
ClusterHead gradient(const ClusterHead& head, const Standard& standard, const Samples& train,
                     const at::Tensor& index) {
  const int64_t n = index.numel();
  const int64_t n_clusters = head.bias.numel();
  const at::Tensor s = at::empty({n, train.z.size(1)});
  const at::Tensor error = at::empty({n, n_clusters});
  in_tiles(n, kTileSamples, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    const at::Tensor tile = index.narrow(0, begin, count);
    const at::Tensor inputs = standard.apply(train.z.index_select(0, tile));
    const at::Tensor p = at::softmax(at::addmm(head.bias, inputs, head.weight.t()), 1);
    p.sub_(train.log_targets.index_select(0, tile).exp_()).mul_(1.0 / static_cast<double>(n));
    s.narrow(0, begin, count).copy_(inputs);
    error.narrow(0, begin, count).copy_(p);
  });
  ClusterHead result{at::empty_like(head.weight), at::zeros_like(head.bias)};
  in_tiles(n_clusters, kTileClusters, [&](int64_t begin, int64_t end) {
    at::Tensor rows = result.weight.narrow(0, begin, end - begin);
    at::mm_out(rows, error.narrow(1, begin, end - begin).t(), s);
  });
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < n_clusters; ++c) {
      result.bias.data_ptr<float>()[c] += error.data_ptr<float>()[i * n_clusters + c];
    }
  }
  return result;
}

// Fisher and Yates.
void shuffle(const at::Tensor& order, Random& random) {
  int64_t* data = order.data_ptr<int64_t>();
  for (int64_t i = order.numel() - 1; i > 0; --i) {
    std::swap(data[i], data[random.below(i + 1)]);
  }
}

}  // namespace

ClusterHead train_cluster_head(const ClusterHead& start, const Samples& train,
                               const Samples& held_out, const Standard& standard,
                               const ClusterHeadOptions& options, ClusterHeadReport& report) {
  ClusterHead head = copy_of(start);
  ClusterHead best = start;
  report.kl_fitted = report.kl_closed_form;
  const AdamOptions adam{.mean = AdamOptions::Mean::Increment};
  Adam weight(head.weight, adam);
  Adam bias(head.bias, adam);
  Random random(options.seed);
  const at::Tensor order = at::arange(train.count(), at::kLong);
  const int64_t n_steps = options.epochs * ((train.count() + options.batch - 1) / options.batch);
  const double start_rate =
      options.learning_rate * std::min(1.0, kRateColumns / static_cast<double>(train.z.size(1)));
  uint64_t step = 0;
  int64_t best_epoch = 0;
  for (int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    shuffle(order, random);
    for (int64_t first = 0; first < train.count(); first += options.batch) {
      const int64_t n = std::min(options.batch, train.count() - first);
      const ClusterHead slope = gradient(head, standard, train, order.narrow(0, first, n));
      const double done = static_cast<double>(step++) / static_cast<double>(n_steps);
      const double rate = start_rate * 0.5 * (1 + std::cos(std::numbers::pi * done));
      weight.step(slope.weight, {.number = step, .rate = rate});
      bias.step(slope.bias, {.number = step, .rate = rate});
    }
    report.epochs = epoch;
    const double kl = mean_kl(head, standard, held_out);
    if (kl < report.kl_fitted) {
      report.kl_fitted = kl;
      best = copy_of(head);
      best_epoch = epoch;
    } else if (epoch - best_epoch >= options.patience) {
      break;
    }
  }
  return best;
}

}  // namespace rwkv::press

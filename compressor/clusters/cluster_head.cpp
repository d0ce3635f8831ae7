#include "compressor/clusters/cluster_head.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "compressor/clusters/fit.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kLeastSamples = 64;
constexpr int64_t kSamples = 256;
// Ridges of the closed form, for inputs of variance 1. With 27,000 samples of 128 columns the
// smallest always won; the others are for few samples compared with the columns.
constexpr double kRidges[] = {1e-3, 1e-2, 1e-1};

Status check(const at::Tensor& z, const at::Tensor& log_targets,
             const ClusterHeadOptions& options) {
  if (z.dim() != 2 || log_targets.dim() != 2 || z.size(0) != log_targets.size(0) || z.size(1) < 1 ||
      log_targets.size(1) < 2) {
    return usage_error(
        "cluster head: found samples of shape [{}] and targets of shape [{}], expected [n, D] and "
        "[n, K] with K of 2 or more",
        fmt::join(z.sizes(), ", "), fmt::join(log_targets.sizes(), ", "));
  }
  if (z.size(0) < kLeastSamples) {
    return usage_error(
        "cluster head: found {} samples, expected {} or more; give more calibration text",
        z.size(0), kLeastSamples);
  }
  if (options.epochs < 0 || options.batch < 1 || options.patience < 1 ||
      !(options.learning_rate > 0) || !std::isfinite(options.learning_rate)) {
    return usage_error(
        "cluster head: found epochs {}, batch {}, patience {} and learning rate {}, expected "
        "epochs "
        ">= 0 and the others above 0",
        options.epochs, options.batch, options.patience, options.learning_rate);
  }
  if (!at::isfinite(z).all().item<bool>() || !at::isfinite(log_targets).all().item<bool>()) {
    return usage_error(
        "cluster head: found samples or targets that are not finite; check the model and the "
        "targets");
  }
  return {};
}

// The sum over tiles of what `kl` returns for each, in the order of the tiles.
double mean_over(int64_t n, const std::function<double(int64_t, int64_t)>& kl) {
  std::vector<double> sums(static_cast<size_t>((n + kSamples - 1) / kSamples));
  in_tiles(n, kSamples, [&](int64_t begin, int64_t end) {
    sums[static_cast<size_t>(begin / kSamples)] = kl(begin, end - begin);
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0) / static_cast<double>(n);
}

}  // namespace

double mean_kl(const ClusterHead& head, const Standard& standard, const Samples& samples) {
  return mean_over(samples.count(), [&](int64_t first, int64_t n) {
    const Samples tile = samples.slice(first, n);
    const at::Tensor logits = at::addmm(head.bias, standard.apply(tile.z), head.weight.t());
    const at::Tensor gap = tile.log_targets - at::log_softmax(logits, 1);
    return gap.mul_(tile.log_targets.exp()).sum(at::kDouble).item<double>();
  });
}

double mean_kl_of_uniform(const Samples& samples) {
  const double log_k = std::log(static_cast<double>(samples.log_targets.size(1)));
  return mean_over(samples.count(), [&](int64_t first, int64_t n) {
    const at::Tensor target = samples.log_targets.narrow(0, first, n);
    return ((target + log_k) * target.exp()).sum(at::kDouble).item<double>();
  });
}

ClusterHead fit_closed_form(const Samples& train, const Samples& held_out, const Standard& standard,
                            ClusterHeadReport& report) {
  const int64_t cols = train.z.size(1);
  const int64_t n_clusters = train.log_targets.size(1);
  const at::Tensor gram = at::zeros({cols, cols}, at::kDouble);
  const at::Tensor moments = at::zeros({cols, n_clusters}, at::kDouble);
  const at::Tensor mean = at::zeros({n_clusters}, at::kDouble);
  // Inputs have mean 0, so the column of ones would be orthogonal to them: its coefficient, the
  // bias, is the mean of the targets, and no ridge shrinks it.
  constexpr int64_t kChunk = 1024;
  const auto n = static_cast<double>(train.count());
  for (int64_t first = 0; first < train.count(); first += kChunk) {
    const Samples part = train.slice(first, std::min(kChunk, train.count() - first));
    const at::Tensor s = standard.apply(part.z).to(at::kDouble);
    const at::Tensor targets = part.log_targets.to(at::kDouble);
    in_tiles(cols, 64, [&](int64_t begin, int64_t end) {
      const at::Tensor columns = s.narrow(1, begin, end - begin).t();
      gram.narrow(0, begin, end - begin).addmm_(columns, s, 1, 1 / n);
      moments.narrow(0, begin, end - begin).addmm_(columns, targets, 1, 1 / n);
    });
    const SingleThread single;
    mean.add_(targets.sum(0), 1 / n);
  }
  ClusterHead best;
  report.kl_closed_form = std::numeric_limits<double>::infinity();
  for (const double ridge : kRidges) {
    ClusterHead head{at::Tensor(), mean.to(at::kFloat)};
    {
      const SingleThread single;
      const at::Tensor factor = at::linalg_cholesky(gram + ridge * at::eye(cols, at::kDouble));
      head.weight = at::cholesky_solve(moments, factor).t().to(at::kFloat).contiguous();
    }
    const double kl = mean_kl(head, standard, held_out);
    if (kl < report.kl_closed_form || !best.weight.defined()) {
      report.kl_closed_form = kl;
      report.ridge = ridge;
      best = head;
    }
  }
  return best;
}

Result<ClusterHead> fit_cluster_head(const at::Tensor& z, const at::Tensor& log_targets,
                                     const ClusterHeadOptions& options, ClusterHeadReport* report) {
  const at::NoGradGuard no_grad;
  RWKV_TRY(check(z, log_targets, options));
  const Samples all{z.to(at::kFloat).contiguous(), log_targets.to(at::kFloat).contiguous()};
  ClusterHeadReport found;
  found.n_held_out = all.count() / 10;
  found.n_train = all.count() - found.n_held_out;
  const Samples train = all.slice(0, found.n_train);
  const Samples held_out = all.slice(found.n_train, found.n_held_out);
  const Standard standard = standard_of(train.z);
  found.kl_uniform = mean_kl_of_uniform(held_out);
  ClusterHead head = fit_closed_form(train, held_out, standard, found);
  head = train_cluster_head(head, train, held_out, standard, options, found);
  if (report) {
    *report = found;
  }
  return standard.undo(head);
}

}  // namespace rwkv::press

#include "compressor/numerics/kmeans.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compressor/numerics/assign.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTileRows = 512;
constexpr double kLargest = 1e15;  // beyond, squared distances leave the range of f32

Status check_rows(const at::Tensor& rows, const at::Tensor& weights) {
  if (rows.dim() != 2 || rows.size(1) < 1 || weights.dim() != 1 ||
      weights.size(0) != rows.size(0)) {
    return usage_error(
        "clustering: expected rows of shape [V, D] and weights of shape [V], found [{}] and [{}]; "
        "pass one weight for every row",
        fmt::join(rows.sizes(), ", "), fmt::join(weights.sizes(), ", "));
  }
  if (rows.size(0) > 0 && !(rows.abs().max().item<double>() <= kLargest)) {
    return usage_error(
        "clustering: expected the rows of a trained matrix, found values that are not finite or "
        "beyond {}; check the checkpoint",
        kLargest);
  }
  if (rows.size(0) > 0 && !(weights.min().item<double>() > 0 &&
                            std::isfinite(weights.to(at::kDouble).sum().item<double>()))) {
    return usage_error(
        "clustering: expected weights above 0 and finite, found others; smooth the frequencies, "
        "for example by adding 1");
  }
  return {};
}

Status check_options(int64_t n_rows, const KMeansOptions& options) {
  if (options.n_clusters < 2) {
    return usage_error("clustering: expected 2 clusters or more, found {}; raise n_clusters",
                       options.n_clusters);
  }
  if (options.n_clusters > n_rows) {
    return usage_error(
        "clustering: expected at most as many clusters as rows, found {} for {}; lower n_clusters",
        options.n_clusters, n_rows);
  }
  if (!std::isfinite(options.max_share) || options.max_share < 0 ||
      (options.max_share > 0 && options.max_share < 1)) {
    return usage_error(
        "clustering: expected max_share 0 (no limit) or at least 1 (clusters of the same size), "
        "found {}; raise it",
        options.max_share);
  }
  if (options.iterations < 1) {
    return usage_error("clustering: expected 1 iteration or more, found {}", options.iterations);
  }
  return {};
}

// The first guess is chosen among rows drawn without replacement, with probabilities in proportion
// to their weights (exponential race), ascending. All rows if they are few.
std::vector<int64_t> draw_sample(const std::vector<double>& weights, int64_t n_clusters,
                                 Random& random) {
  const auto n = static_cast<int64_t>(weights.size());
  const int64_t drawn = std::min(n, std::max<int64_t>(4096, 8 * n_clusters));
  std::vector<double> arrival(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    arrival[i] = -std::log1p(-random.uniform()) / weights[i];
  }
  std::vector<int64_t> sample(weights.size());
  std::iota(sample.begin(), sample.end(), int64_t{0});
  std::stable_sort(sample.begin(), sample.end(), [&](int64_t a, int64_t b) {
    return arrival[static_cast<size_t>(a)] < arrival[static_cast<size_t>(b)];
  });
  sample.resize(static_cast<size_t>(drawn));
  std::sort(sample.begin(), sample.end());
  return sample;
}

// An index with a probability in proportion to its share; any if all shares are 0.
size_t draw(const std::vector<double>& shares, Random& random) {
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  if (!(total > 0)) {
    return static_cast<size_t>(random.below(static_cast<int64_t>(shares.size())));
  }
  double left = random.uniform() * total;
  size_t last = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    if (shares[i] > 0) {
      last = i;
      left -= shares[i];
      if (left < 0) {
        break;
      }
    }
  }
  return last;
}

// k-means++ (Arthur and Vassilvitskii 2007): each next centroid is a row of the sample, drawn in
// proportion to its squared distance from the centroids that there are.
at::Tensor seed_centroids(const at::Tensor& rows, const std::vector<double>& weights,
                          int64_t n_clusters, Random& random) {
  const std::vector<int64_t> sample = draw_sample(weights, n_clusters, random);
  const auto n = static_cast<int64_t>(sample.size());
  const at::Tensor index = at::empty({n}, at::kLong);
  std::copy(sample.begin(), sample.end(), index.data_ptr<int64_t>());
  const at::Tensor points = rows.index_select(0, index);
  // If a sample was drawn, the weights are already in it.
  const bool all = sample.size() == weights.size();
  std::vector<double> share(sample.size(), 1);
  if (all) {
    share = weights;
  }
  std::vector<float> nearest(sample.size(), std::numeric_limits<float>::infinity());
  at::Tensor centroids = at::empty({n_clusters, rows.size(1)});
  for (int64_t c = 0; c < n_clusters; ++c) {
    const at::Tensor chosen = points.select(0, static_cast<int64_t>(draw(share, random)));
    centroids.select(0, c).copy_(chosen);
    in_tiles(n, kTileRows, [&](int64_t begin, int64_t end) {
      const at::Tensor tile = points.narrow(0, begin, end - begin) - chosen;
      const at::Tensor squared = tile.square_().sum(1);
      for (int64_t i = begin; i < end; ++i) {
        const auto at = static_cast<size_t>(i);
        nearest[at] = std::min(nearest[at], squared.data_ptr<float>()[i - begin]);
        share[at] = (all ? weights[at] : 1.0) * static_cast<double>(nearest[at]);
      }
    });
  }
  return centroids;
}

int64_t capacity_of(int64_t n_rows, const KMeansOptions& options) {
  const auto n = static_cast<double>(n_rows);
  const double limit = std::min(n, options.max_share * n / static_cast<double>(options.n_clusters));
  const int64_t even = (n_rows + options.n_clusters - 1) / options.n_clusters;
  return std::max(even, static_cast<int64_t>(limit));
}

double cost_of(const Assignment& assignment, const std::vector<double>& weights) {
  return std::inner_product(weights.begin(), weights.end(), assignment.distance.begin(), 0.0);
}

}  // namespace

Status check_kmeans(const at::Tensor& rows, const at::Tensor& weights,
                    const KMeansOptions& options) {
  RWKV_TRY(check_rows(rows, weights));
  return check_options(rows.size(0), options);
}

std::vector<double> to_doubles(const at::Tensor& tensor) {
  const at::Tensor in_double = tensor.to(at::kDouble).contiguous();
  const double* data = in_double.data_ptr<double>();
  return {data, data + in_double.numel()};
}

void weighted_means(const at::Tensor& rows, const std::vector<double>& weights,
                    const std::vector<int64_t>& labels, const at::Tensor& centroids) {
  const int64_t cols = rows.size(1);
  std::vector<std::vector<int64_t>> members(static_cast<size_t>(centroids.size(0)));
  for (size_t i = 0; i < labels.size(); ++i) {
    members[static_cast<size_t>(labels[i])].push_back(static_cast<int64_t>(i));
  }
  const float* data = rows.data_ptr<float>();
  float* out = centroids.data_ptr<float>();
  in_tiles(centroids.size(0), 1, [&](int64_t cluster, int64_t) {
    std::vector<double> sum(static_cast<size_t>(cols), 0);
    double total = 0;
    for (const int64_t member : members[static_cast<size_t>(cluster)]) {
      const double weight = weights[static_cast<size_t>(member)];
      const float* row = data + member * cols;
      for (size_t d = 0; d < sum.size(); ++d) {
        sum[d] += weight * static_cast<double>(row[d]);
      }
      total += weight;
    }
    for (size_t d = 0; d < sum.size(); ++d) {
      out[cluster * cols + static_cast<int64_t>(d)] = static_cast<float>(sum[d] / total);
    }
  });
}

Result<KMeans> kmeans(const at::Tensor& rows_given, const at::Tensor& weights_given,
                      const KMeansOptions& options) {
  const at::NoGradGuard no_grad;
  RWKV_TRY(check_kmeans(rows_given, weights_given, options));
  const std::vector<double> weights = to_doubles(weights_given);
  const at::Tensor rows = rows_given.to(at::kFloat).contiguous();

  Random random(options.seed);
  const at::Tensor centroids = seed_centroids(rows, weights, options.n_clusters, random);
  Assignment best;
  double best_cost = std::numeric_limits<double>::infinity();
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < options.iterations; ++i) {
    Assignment now = options.max_share > 0 ? assign_balanced(rows, weights, centroids,
                                                             capacity_of(rows.size(0), options))
                                           : assign_nearest(rows, centroids);
    fill_empty(now, weights, options.n_clusters);
    const bool settled = now.label == labels;
    labels = now.label;
    // Balanced steps may also make it worse.
    if (const double cost = cost_of(now, weights); cost < best_cost || best.label.empty()) {
      best_cost = cost;
      best = std::move(now);
    }
    if (settled) {
      break;
    }
    weighted_means(rows, weights, labels, centroids);
  }
  KMeans result{at::empty({rows.size(0)}, at::kLong), centroids};
  std::copy(best.label.begin(), best.label.end(), result.labels.data_ptr<int64_t>());
  weighted_means(rows, weights, best.label, result.centroids);
  return result;
}

}  // namespace rwkv::press

#include "compressor/clusters/head_order.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compressor/clusters/spherical.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// Weights of k-means are (frequency + 1) to this power, so that some frequent tokens do not draw
// all clusters to themselves. spherical.cpp has what was measured.
constexpr double kWeightPower = 0.25;

std::vector<int64_t> by_frequency(const std::vector<double>& frequencies) {
  std::vector<int64_t> tokens(frequencies.size());
  std::iota(tokens.begin(), tokens.end(), int64_t{0});
  std::stable_sort(tokens.begin(), tokens.end(), [&](int64_t a, int64_t b) {
    return frequencies[static_cast<size_t>(a)] > frequencies[static_cast<size_t>(b)];
  });
  return tokens;
}

Status check(const at::Tensor& rows, const at::Tensor& frequencies, const ClusterOptions& options) {
  if (rows.dim() != 2 || frequencies.dim() != 1 || frequencies.size(0) != rows.size(0)) {
    return usage_error(
        "clustering: expected rows of shape [V, D] and frequencies of shape [V], found [{}] and "
        "[{}]; pass one frequency for every token",
        fmt::join(rows.sizes(), ", "), fmt::join(frequencies.sizes(), ", "));
  }
  const int64_t n_vocab = rows.size(0);
  if (options.n_clusters < 2) {
    return usage_error("clustering: expected 2 clusters or more, found {}; raise n_clusters",
                       options.n_clusters);
  }
  if (options.n_clusters > n_vocab) {
    return usage_error(
        "clustering: expected at most as many clusters as tokens, found {} for {}; lower "
        "n_clusters",
        options.n_clusters, n_vocab);
  }
  if (options.n_frequent < 0 ||
      (options.n_frequent > 0 && options.n_frequent >= n_vocab - options.n_clusters)) {
    return usage_error(
        "clustering: expected n_frequent from 0 to {} with {} tokens and {} clusters, found {}; "
        "lower n_frequent or n_clusters",
        std::max<int64_t>(0, n_vocab - options.n_clusters - 1), n_vocab, options.n_clusters,
        options.n_frequent);
  }
  const at::Tensor least = frequencies.to(at::kDouble).min();
  const at::Tensor total = frequencies.to(at::kDouble).sum();
  if (!(least.item<double>() >= 0) || !std::isfinite(total.item<double>())) {
    return usage_error(
        "clustering: expected how often each token occurs, found frequencies that are negative or "
        "not finite; count them again");
  }
  return {};
}

}  // namespace

int64_t HeadOrder::rows_in(int64_t cluster) const {
  const auto c = static_cast<size_t>(cluster);
  return (c + 1 < first.size() ? first[c + 1] : n_tokens()) - first[c];
}

std::vector<int64_t> HeadOrder::cluster_of_tokens() const {
  std::vector<int64_t> cluster_of(tokens.size());
  for (int64_t cluster = 0; cluster < n_clusters(); ++cluster) {
    const int64_t begin = first[static_cast<size_t>(cluster)];
    for (int64_t row = begin; row < begin + rows_in(cluster); ++row) {
      cluster_of[static_cast<size_t>(tokens[static_cast<size_t>(row)])] = cluster;
    }
  }
  return cluster_of;
}

HeadOrder order_by_cluster(const at::Tensor& labels_given, const at::Tensor& frequencies_given,
                           int64_t n_frequent) {
  const at::Tensor labels = labels_given.to(at::kLong).contiguous();
  const int64_t* label = labels.data_ptr<int64_t>();
  const std::vector<double> frequencies = to_doubles(frequencies_given);
  const std::vector<int64_t> tokens = by_frequency(frequencies);
  const int64_t n_labels = labels.numel() > 0 ? labels.max().item<int64_t>() + 1 : 0;
  std::vector<std::vector<int64_t>> clusters(static_cast<size_t>(n_labels));
  std::vector<double> total(clusters.size(), 0);
  for (size_t i = static_cast<size_t>(n_frequent); i < tokens.size(); ++i) {
    const auto cluster = static_cast<size_t>(label[tokens[i]]);
    clusters[cluster].push_back(tokens[i]);
    total[cluster] += frequencies[static_cast<size_t>(tokens[i])];
  }
  HeadOrder order;
  if (n_frequent > 0) {
    order.first.push_back(0);
    order.tokens.assign(tokens.begin(), tokens.begin() + n_frequent);
  }
  for (const int64_t cluster : by_frequency(total)) {
    const std::vector<int64_t>& members = clusters[static_cast<size_t>(cluster)];
    if (!members.empty()) {
      order.first.push_back(order.n_tokens());
      order.tokens.insert(order.tokens.end(), members.begin(), members.end());
    }
  }
  return order;
}

Result<HeadOrder> cluster_vocabulary(const at::Tensor& rows, const at::Tensor& frequencies,
                                     const ClusterOptions& options) {
  const at::NoGradGuard no_grad;
  RWKV_TRY(check(rows, frequencies, options));
  const std::vector<int64_t> tokens = by_frequency(to_doubles(frequencies));
  const bool frequent = options.n_frequent > 0;
  // Ids ascending, so that the result does not depend on frequencies more than it has to.
  std::vector<int64_t> others(tokens.begin() + options.n_frequent, tokens.end());
  std::sort(others.begin(), others.end());
  const at::Tensor index = at::empty({static_cast<int64_t>(others.size())}, at::kLong);
  std::copy(others.begin(), others.end(), index.data_ptr<int64_t>());
  const at::Tensor labels = at::zeros({rows.size(0)}, at::kLong);
  const int64_t n_clusters = options.n_clusters - (frequent ? 1 : 0);
  if (n_clusters > 1) {
    const KMeansOptions kmeans_options{n_clusters, options.max_share, options.iterations,
                                       options.seed};
    const at::Tensor weights =
        frequencies.index_select(0, index).to(at::kDouble).add(1).pow(kWeightPower);
    const at::Tensor other_rows = frequent ? rows.index_select(0, index) : rows;
    RWKV_ASSIGN(const at::Tensor found, spherical_kmeans(other_rows, weights, kmeans_options));
    labels.index_copy_(0, index, found);
  }
  return order_by_cluster(labels, frequencies, options.n_frequent);
}

}  // namespace rwkv::press

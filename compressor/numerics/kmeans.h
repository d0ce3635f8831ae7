// Weighted k-means over the rows of a matrix, with or without a limit on the size of clusters.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

struct KMeansOptions {
  int64_t n_clusters = 200;
  /// No cluster holds more than max_share * V / n_clusters rows (rounded down, but never below
  /// V / n_clusters rounded up, or rows would be left over); at least 1. 0: no limit.
  double max_share = 0;
  int64_t iterations = 25;  ///< at most; fewer if the labels settle
  uint64_t seed = 0;
};

struct KMeans {
  at::Tensor labels;     ///< [V] int64: the cluster of every row, none of n_clusters unused
  at::Tensor centroids;  ///< [n_clusters, D] f32: the weighted means of their rows
};

/// `rows` is [V, D] (a list of scalars: D = 1) and `weights` [V], finite and above 0: how much a
/// row counts. Squared distances, k-means++ from a seeded sample. Holds a copy of the rows in f32
/// unless they are that. The same input, options and seed give the same result with any number of
/// threads. Refuses what check_kmeans() does.
Result<KMeans> kmeans(const at::Tensor& rows, const at::Tensor& weights,
                      const KMeansOptions& options);

/// Usage for fewer than 2 clusters, more clusters than rows, impossible limits, shapes and weights.
Status check_kmeans(const at::Tensor& rows, const at::Tensor& weights,
                    const KMeansOptions& options);

/// The weighted means of the rows (f32, contiguous) of each label, into `centroids`: added up in
/// double in the order of the rows. No label of centroids may be without rows.
void weighted_means(const at::Tensor& rows, const std::vector<double>& weights,
                    const std::vector<int64_t>& labels, const at::Tensor& centroids);

/// Its values, in order.
std::vector<double> to_doubles(const at::Tensor& tensor);

}  // namespace rwkv::press

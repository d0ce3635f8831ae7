// One step of k-means: which cluster each row belongs to, given the centroids.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace rwkv::press {

struct Assignment {
  std::vector<int64_t> label;
  std::vector<float> distance;  ///< squared, to the centroid of the label
};

/// Every row to its nearest centroid. rows [V, D] and centroids [K, D], f32 and contiguous.
Assignment assign_nearest(const at::Tensor& rows, const at::Tensor& centroids);

/// At most `capacity` rows to a centroid (K * capacity >= V): rows choose in descending order of
/// weight * (second least - least squared distance), what it costs to come too late.
Assignment assign_balanced(const at::Tensor& rows, const std::vector<double>& weights,
                           const at::Tensor& centroids, int64_t capacity);

/// Gives every empty cluster the row that is farthest (weight * squared distance) from its own
/// centroid, out of clusters that have another.
void fill_empty(Assignment& assignment, const std::vector<double>& weights, int64_t n_clusters);

}  // namespace rwkv::press

// Weighted k-means over the rows of a matrix, with or without a limit on the size of clusters.
#pragma once

#include <ATen/ATen.h>

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

/// The cluster of every row: [V] int64, each of 0 .. n_clusters - 1 used at least once. `rows` is
/// [V, D] and `weights` [V], finite and above 0 (how much a row counts). Spherical: rows are
/// compared by their directions from the weighted mean of all; kmeans.cpp says why. Holds a copy of
/// the rows in f32. The same input,
/// options and seed give the same labels with any number of threads. Refuses (Code::Usage) fewer
/// than 2 clusters, more clusters than rows, impossible limits, shapes and weights.
Result<at::Tensor> kmeans(const at::Tensor& rows, const at::Tensor& weights,
                          const KMeansOptions& options);

}  // namespace rwkv::press

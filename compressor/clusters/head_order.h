// The vocabulary split into clusters, and the order in which the head's rows are packed: clusters
// are contiguous, so that a device reads one range of rows for each.
//
// Method: RWKV-Lite (arXiv 2412.10856), hierarchical head, which clusters the embedding into
// groups of any size. Here the caller chooses the matrix, tokens count by frequency, sizes can be
// limited, and the most frequent tokens can have a cluster that is always read.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

/// The permutation of head rows that makes clusters contiguous.
struct HeadOrder {
  /// Token id of each packed row; within a cluster by descending frequency, then by id.
  std::vector<int64_t> tokens;
  /// First row of each cluster, ascending from 0. No cluster is empty.
  std::vector<int64_t> first;

  int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t n_clusters() const { return static_cast<int64_t>(first.size()); }
  int64_t rows_in(int64_t cluster) const;
  /// The cluster of every token id.
  std::vector<int64_t> cluster_of_tokens() const;
};

/// labels [V] (integers from 0) and frequencies [V]. The n_frequent (0 .. V) most frequent tokens,
/// ties to the lower id, become cluster 0 regardless of their labels; labels without remaining
/// tokens vanish. The other clusters follow by descending total frequency, ties to the lower label.
HeadOrder order_by_cluster(const at::Tensor& labels, const at::Tensor& frequencies,
                           int64_t n_frequent);

struct ClusterOptions {
  int64_t n_clusters = 200;  ///< all of them, with the frequent one
  /// Tokens of the frequent cluster; 0: there is none. On the model of spherical.cpp, 64 of 4096
  /// were no gain in rows read (16.5 % with and without), though the cluster head fits better.
  int64_t n_frequent = 0;
  double max_share = 0;  ///< as in KMeansOptions, of the tokens that are not frequent
  int64_t iterations = 25;
  uint64_t seed = 0;
};

/// All of it: k-means over `rows` [V, D] (the head's, or the embedding's) of the tokens that are
/// not frequent, weighted by `frequencies` [V] (counts, finite and >= 0; zeros are smoothed here),
/// then the order. The cluster head has n_clusters outputs. Refuses (Code::Usage) fewer than 2
/// clusters, more clusters than tokens, n_frequent < 0 or >= V - n_clusters, and what kmeans
/// refuses.
Result<HeadOrder> cluster_vocabulary(const at::Tensor& rows, const at::Tensor& frequencies,
                                     const ClusterOptions& options);

}  // namespace rwkv::press

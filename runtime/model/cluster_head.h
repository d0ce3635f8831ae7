// The hierarchical head (RWKV-Lite, arXiv 2412.10856, and docs/packed_format.md): a small matrix
// gives the probability p_c of each cluster of the vocabulary; only the rows of likely clusters are
// read, their logits are exact, and every other token gets the logit that makes its cluster's total
// probability p_c.
#pragma once

#include <span>
#include <vector>

#include "runtime/memory/weights.h"
#include "runtime/model/products.h"

namespace rwkv::edge {

class ClusterHead {
 public:
  /// BadInput if the order of the rows is not a permutation or clusters do not tile the rows.
  Status load(const Weights& weights);

  /// Logits of every token of the vocabulary; z [n_tokens][n_embd], logits [n_tokens][n_vocab].
  /// Fails if storage does.
  Status forward(Pass& pass, const float* z, float* logits) const;

  /// Bytes of its own tables.
  static uint64_t bytes(const ModelConfig& config);

 private:
  size_t n_clusters() const { return first_.size() - 1; }
  void list_clusters();
  Result<size_t> select(Pass& pass, const float* z) const;
  Status one_token(Pass& pass, const float* z, float* logits) const;
  Result<double> known_logits(Pass& pass, const float* z, size_t n_selected, float* logits) const;
  void spread_rest(Pass& pass, size_t n_selected, double known, float* logits) const;

  MatrixView weight_;
  std::span<const float> bias_;
  RowStore* rows_ = nullptr;
  std::vector<uint32_t> tokens_;    ///< id of each row of the head
  std::vector<uint32_t> first_;     ///< first row of each cluster, and the number of rows
  std::vector<uint16_t> clusters_;  ///< of each token
  double p_min_ = 1;
  size_t k_min_ = 1;
  size_t k_max_ = 1;
  bool first_always_ = false;
};

}  // namespace rwkv::edge

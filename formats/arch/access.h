// Which part of each tensor a token reads, under the conditions that the model sets: rows of
// ffn.key are named by a predictor, which a block may lack; rows of the head lie in clusters, which
// a model may lack.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/arch/identify.h"

namespace rwkv {

class ModelAccess {
 public:
  /// Takes note of every tensor of the model.
  ModelAccess(const ModelConfig& config, std::span<const TensorBinding> tensors);

  Access of(const TensorBinding& tensor) const;
  /// Whether a predictor names the neurons of `block`.
  bool has_predictor(int64_t block) const { return has_predictor_[static_cast<size_t>(block)]; }

 private:
  bool has_clusters_;
  std::vector<bool> has_predictor_;  ///< by block
};

/// Shares of the rows that a token reads on average, where it does not read them all.
struct RowShares {
  double neurons = 1;
  double clusters = 1;
};
/// Bytes that a token reads on average of a tensor of `n_bytes` bytes in `rows` rows.
double bytes_read(Access access, uint64_t n_bytes, uint64_t rows, const RowShares& shares);

}  // namespace rwkv

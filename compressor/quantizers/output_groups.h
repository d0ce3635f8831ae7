// Outputs of the head in groups. What an error of a logit costs depends on the token: nothing where
// the word is not in question. To second order KL(p || q) is the sum over the vocabulary of
// p (1 - p) / 2 times the squared error of the logit (less what all logits share), so the moments
// that a row's errors are weighed with are those of the inputs where its word is likely. A row
// alone has too little text for moments of its own; rows that are similar share them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

class OutputGroups {
 public:
  /// `inputs` f32 [n, in] of the head, `head` f32 [n_vocab, in]. Groups of rows by k-means, which
  /// `seed` begins, as many as count_for() says. A single one, or values that are not finite: one
  /// group, with the moments of all inputs. The same bits with any number of threads.
  static Result<OutputGroups> of_head(const at::Tensor& inputs, const at::Tensor& head,
                                      uint64_t seed, uint64_t asked = 0);

  static constexpr int64_t kIterations = 10;  ///< of k-means
  /// How many groups a head of so many rows has: as many as are asked for, of two rows at least on
  /// average; 0 asks for one for every 16 rows, at most 128.
  static int64_t count_for(uint64_t n_vocab, uint64_t asked = 0);

  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  /// The rows of a group, int64, ascending; each row is in one group.
  const at::Tensor& rows(int64_t group) const { return rows_[static_cast<size_t>(group)]; }
  /// E[c x x^T], f32 [in, in], with the costs c of the group's errors, whose mean is 1. Call it
  /// where LibTorch has one thread, as inside of in_tiles().
  at::Tensor moments(int64_t group) const;

 private:
  OutputGroups() = default;
  at::Tensor inputs_;
  at::Tensor costs_;  // [groups, n]; undefined with one group
  std::vector<at::Tensor> rows_;
};

}  // namespace rwkv::press

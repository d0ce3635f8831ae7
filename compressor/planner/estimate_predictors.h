// What FFN predictors cost and read, from some blocks: predictors fitted as the stage fits them,
// and the changes of the FFN's outputs over text, weighed by gradients.
#pragma once

#include <map>
#include <vector>

#include "compressor/model/block.h"
#include "compressor/planner/curves.h"

namespace rwkv::press {

/// The FFN of a block over text.
struct FfnSeen {
  at::Tensor learnt_from;  ///< inputs of ffn.key where stages learn, [m, n_embd]
  at::Tensor inputs;       ///< where losses are measured, [n, n_embd]
  at::Tensor gradients;    ///< at the outputs of ffn.value there, [n, n_embd]
};

class PredictorEstimate {
 public:
  /// Without predictors, only what is read without them.
  PredictorEstimate(const PlanSubject& subject, bool with_predictors);

  /// Whether a block is one of those that are looked at.
  bool takes(int64_t block) const { return block % step_ == 0; }
  Status add(int64_t block, const Block& weights, const FfnSeen& seen);
  /// A point for each recall, after the one without: losses of all blocks added up, those between
  /// two blocks that were looked at from both. Every block that takes() has been added.
  std::vector<RowsPoint> points() const;

 private:
  struct Found {
    double active = 0;  // share of neurons that are not silent
    std::vector<RowsPoint> points;
  };

  const PlanSubject& subject_;
  std::vector<double> recalls_;
  int64_t n_blocks_;
  int64_t step_;
  std::map<int64_t, Found> found_;
};

}  // namespace rwkv::press

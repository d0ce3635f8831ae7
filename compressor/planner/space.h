// The choices and their cost: for each way to hold a model in memory, bytes and losses of every
// setting, and the exact account of a choice.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <vector>

#include "compressor/planner/choice_bytes.h"
#include "compressor/planner/curves.h"
#include "compressor/planner/knapsack.h"

namespace rwkv::press {

/// The request.
struct PlanRequest {
  uint64_t resident = 0;  ///< bytes, by the runtime's account without the program; 0: any
  uint64_t size = 0;      ///< bytes of the packed file; 0: any
  /// Loaded, sparse or streamed; without one, any. Streamed needs `resident` and `read_ahead`.
  std::optional<edge::MemoryMode> mode;
  uint64_t embedding_rows = edge::kDefaultEmbeddingRows;  ///< kept in memory where sparse
  double min_speed = 0;                                   ///< tokens per second; 0: any
  double read_speed = 0;   ///< bytes per second of the device's storage; 0: nothing is streamed
  bool is_checked = true;  ///< the plan is packed, opened and measured once

  /// Bytes that the storage reads while a token is computed.
  uint64_t read_ahead() const {
    constexpr double kMost = 1e18;  // fits the integer whatever the speeds are
    return min_speed > 0 ? static_cast<uint64_t>(std::min(read_speed / min_speed, kMost)) : 0;
  }
};

/// A choice in a frame, with its predictions.
struct PlannedChoice {
  Choice choice;
  MemoryFrame frame;
  ChoiceBytes footprint;
  /// KL(dense || model), nats per token: its parts added up, the matrices as a whole once they were
  /// measured so.
  double loss = 0;
  double nats = 0;  ///< the same of the cross-entropy above the dense model's; not of best_in()
};

class PlanSpace {
 public:
  /// All three must outlive it.
  PlanSpace(const PlanSubject& subject, const Curves& curves, const PlanRequest& request);

  /// Frames worth trying. `tight`: with caches of a hundredth, where nothing else fits.
  std::vector<MemoryFrame> frames(bool tight) const;
  /// The choice, exactly, from its recipe; predictors' halves as they were found to be of use.
  Result<ChoiceBytes> footprint(const Choice& choice, const MemoryFrame& frame) const;
  /// The best choice within all limits of the request; nothing if none was found. `points` are the
  /// settings of each matrix and what they cost. One limit is the knapsack's; the others put a
  /// price on the bytes that they limit.
  Result<std::optional<PlannedChoice>> best_in(
      const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points) const;
  /// The best of all frames.
  Result<std::optional<PlannedChoice>> best() const;
  /// The best of those that treat all matrices alike.
  Result<std::optional<PlannedChoice>> best_uniform() const;
  /// The choice of the least bytes, in memory or in the file.
  Result<PlannedChoice> smallest(Measure measure) const;

 private:
  using Amounts = std::array<double, kMeasures>;
  /// What an option adds to a base.
  struct Moved {
    double loss;
    Amounts bytes;
  };
  struct Costs {
    Amounts base;
    std::vector<std::vector<Moved>> options;  ///< matrices, then the lora ones
  };
  Result<Costs> costs(const MemoryFrame& frame,
                      const std::vector<std::vector<MatrixPoint>>& points) const;
  Choice choice_of(const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points,
                   const std::vector<size_t>& picks) const;
  Result<std::optional<PlannedChoice>> solve(const MemoryFrame& frame,
                                             const std::vector<std::vector<MatrixPoint>>& points,
                                             const Costs& costs, Measure hard,
                                             const Amounts& prices) const;
  Result<std::optional<PlannedChoice>> best_with(
      const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points,
      const Costs& costs, Measure hard) const;
  double limit(Measure measure) const;
  bool is_limited(Measure measure) const;
  bool fits(const ChoiceBytes& footprint, Measure measure) const;
  Result<std::optional<PlannedChoice>> lossless() const;
  bool fits(const ChoiceBytes& footprint) const;
  bool has_lora() const;

  const PlanSubject& subject_;
  const Curves& curves_;
  const PlanRequest& request_;
  PackedSize size_;
  double most_touched_ = 0;  ///< that min_speed allows; 0: any
};

}  // namespace rwkv::press

// The plan: the recipe of least predicted loss whose model takes at most so many bytes.
//
//   curves (each component by itself) -> knapsack -> measured as a whole -> curves about that
//   choice -> knapsack -> ... -> packed and measured on the runtime, once
//
// Losses of single components only nearly add up, so the last curves are those around the choice,
// and a choice that is not better when measured as a whole is not taken. What is made small is the
// distance from the dense model's predictions, KL(dense || model): a few thousand tokens' own
// cross-entropy can be fitted by chance, below the dense model's even.
#pragma once

#include "compressor/planner/space.h"

namespace rwkv::press {

struct PlanReport {
  PlannedChoice planned;
  double dense_loss = 0;       ///< cross-entropy of the dense model, nats per token
  double predicted_loss = 0;   ///< cross-entropy, nats per token; planned.loss is the distance
  PackedMeasure measured;      ///< of the packed file on the runtime
  double predicted_speed = 0;  ///< tokens per second; 0 without min_speed
  /// The best that treats all matrices alike within the same budget; its loss is predicted.
  std::optional<PlannedChoice> uniform;
  std::string uniform_recipe;         ///< YAML; empty if none fits
  std::vector<double> matrix_losses;  ///< distance by itself, of each matrix's setting
  std::string recipe;                 ///< YAML
};

/// Refuses (Usage) a budget below the least that any choice takes, naming it, from shapes alone:
/// before anything is measured.
Status check_budget(const PlanSubject& subject, const PlanRequest& request);

/// Plans with measured curves. Same inputs, same plan, but for min_speed, which has a clock in it.
/// Usage if no choice fits, naming the smallest, or is as fast as asked for.
Result<PlanReport> plan_for_budget(const PlanSubject& subject, LossMeter& meter,
                                   const Curves& curves, const PlanRequest& request,
                                   uint64_t rounds);

}  // namespace rwkv::press

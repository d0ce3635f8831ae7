// The plan: the recipe of least predicted loss whose model fits a number of bytes.
//
//   curves (each component by itself) -> knapsack -> measured as a whole -> curves about that
//   choice -> knapsack -> ... -> packed and measured on the runtime, once
//
// Losses of single components add up only approximately, so the last curves are those around the
// choice, and a choice is taken only if it is better when measured as a whole. The plan minimises
// the distance from the dense model's predictions, KL(dense || model): the cross-entropy of a few
// thousand tokens can be overfitted, even below that of the dense model.
#pragma once

#include "compressor/planner/space.h"

namespace rwkv::press {

struct PlanReport {
  PlannedChoice planned;
  double dense_loss = 0;       ///< cross-entropy of the dense model, nats per token
  double predicted_loss = 0;   ///< cross-entropy, nats per token; planned.loss is the distance
  bool is_checked = false;     ///< it was packed and measured
  PackedMeasure measured;      ///< of the packed file on the runtime; if it is checked
  uint64_t file_bytes = 0;     ///< of it
  double predicted_speed = 0;  ///< tokens per second; 0 without min_speed
  /// The best that treats all matrices alike within the same budget; its loss is predicted.
  std::optional<PlannedChoice> uniform;
  std::string uniform_recipe;         ///< YAML; empty if none fits
  std::vector<double> matrix_losses;  ///< distance by itself, of each matrix's setting
  std::string recipe;                 ///< YAML
};

/// Refuses (Usage) limits below the smallest choice and names that: of bytes in memory, and of the
/// file. Needs only shapes, so it runs before anything is measured.
Status check_budget(const PlanSubject& subject, const PlanRequest& request);

/// Plans with estimated curves (estimate.h): one knapsack, whose choice is packed and measured.
Result<PlanReport> plan_by_estimates(const PlanSubject& subject, const Curves& curves,
                                     const PlanRequest& request);

/// Plans with measured curves. The same inputs give the same plan, except with min_speed, which
/// measures time. Usage if no choice fits (names the smallest) or none is as fast as required.
Result<PlanReport> plan_for_budget(const PlanSubject& subject, LossMeter& meter,
                                   const Curves& curves, const PlanRequest& request,
                                   uint64_t rounds);

}  // namespace rwkv::press

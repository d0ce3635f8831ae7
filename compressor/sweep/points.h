// The points of a sweep: what its axes and its ablation ask for, each a complete recipe that was
// checked, equal ones once.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compressor/sweep/settings.h"

namespace rwkv::press {

/// So many points at most; more is a slip in a list rather than a plan.
inline constexpr size_t kMaxSweepPoints = 2000;

struct SweepPoint {
  std::string label;                                          ///< "low_rank.factor=4"
  std::vector<std::pair<std::string, std::string>> settings;  ///< axis and value
  std::string recipe;                                         ///< every setting in force, as YAML
  std::vector<std::string> stages;                            ///< each stage's part of it, in order
  std::string learns_from;        ///< what calibration depends on; empty: learns from nothing
  std::optional<size_t> trained;  ///< place of the last stage that trains
};

struct SweepPlan {
  std::vector<SweepPoint> points;
  struct Bar {
    std::string label;  ///< "low_rank alone"
    size_t point;
  };
  std::vector<Bar> ablation;
  std::optional<size_t> baseline;  ///< the dense model, with an ablation
};

/// The recipe in `yaml` as a point.
Result<SweepPoint> point_from_recipe(const std::string& yaml, const std::string& origin);

/// Parses the recipe with the values of every point of the cross product, the last axis fastest; an
/// axis of a stage that another axis drops has no say. Ablation: nothing but half precision; each
/// stage alone, or, if it mends what others did (it trains, or wants factor pairs), with those
/// before it; all together. Beside them numbers are in half precision, as in the baseline.
Result<SweepPlan> plan_sweep(const SweepSettings& settings);

}  // namespace rwkv::press

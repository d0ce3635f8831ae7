// The points of a sweep: the combinations of its axes and its ablation, each a complete, checked
// recipe; equal ones occur once.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compressor/sweep/settings.h"

namespace rwkv::press {

/// The largest number of points; more is probably a mistake in a list.
inline constexpr size_t kMaxSweepPoints = 2000;

struct SweepPoint {
  std::string label;                                          ///< what varies: "factor=4"
  std::vector<std::pair<std::string, std::string>> settings;  ///< axis and value
  std::string recipe;                                         ///< every setting in force, as YAML
  std::string device;  ///< device_yaml() of what its file is held by; empty: nothing is given
  std::vector<std::string> stages;    ///< the part of each stage, in order
  std::string learns_from;            ///< what calibration depends on; empty: no learning from text
  std::vector<std::string> commands;  ///< that it runs; see commands_of()
  std::optional<size_t> trained;      ///< index of the last stage that trains
};

struct SweepPlan {
  std::vector<SweepPoint> points;
  struct Bar {
    std::string label;  ///< "low_rank alone"
    size_t point;
  };
  std::vector<Bar> ablation;
  std::optional<size_t> baseline;  ///< the dense model, with an ablation or references
};

/// The recipe in `yaml` as a point.
Result<SweepPoint> point_from_recipe(const std::string& yaml, const std::string& origin);

/// Parses the recipe with the values of every point of the cross product, the last axis fastest; an
/// axis of a stage that another axis drops has no effect. Axes device.KEY vary how a file is held.
/// Ablation: only half precision; each stage
/// alone, or together with the stages before it if it only recovers quality (Stage::recovers); all
/// together. Everything else is in half precision, as in the baseline. References: the dense model
/// in half precision, and in int8.
Result<SweepPlan> plan_sweep(const SweepSettings& settings);

}  // namespace rwkv::press

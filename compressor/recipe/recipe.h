// A recipe: which stages a checkpoint goes through, in order, with which settings. Read from YAML
// (docs/recipes.md), checked completely before any work starts: every key must be known, every
// value of the right kind.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compressor/calibrate/calibration.h"
#include "compressor/recipe/budget.h"
#include "compressor/stages/stage.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct Recipe {
  std::string name;
  std::string origin;  ///< where it was read, for messages; not part of it
  uint64_t seed = 0;
  /// Samples and length; the texts are not part of a recipe.
  CalibrationOptions calibration;
  /// The budget for which the planner chooses stages; such a recipe has no stages yet.
  std::optional<Budget> budget;
  std::vector<std::unique_ptr<Stage>> stages;

  /// The recipe with every setting in force, as YAML; stored in the packed file. Reading it back
  /// gives the same recipe.
  std::string effective_yaml() const;
};

/// The keys of `calibration`.
Settings calibration_settings(CalibrationOptions& options);

/// Whether any stage of the recipe learns from text.
bool needs_calibration(const Recipe& recipe);
/// True if a stage learns from text when there is some; all that need it do.
bool may_use_calibration(const Recipe& recipe);
/// Whether any stage trains, or calls a program that does.
bool trains(const Recipe& recipe);
/// Whether a stage can do a part of its work, for several machines.
bool has_parts(const Recipe& recipe);

/// `text` is YAML. A recipe with the key `preset` starts from that preset: its stages change
/// settings of the preset's, add to them, or leave them out (`- low_rank: off`). `origin` names it
/// in messages, `overrides` are "stage.key=value" from --set.
Result<Recipe> parse_recipe(const std::string& text, const std::string& origin,
                            std::span<const std::string> overrides);

/// A compiled-in preset: configs/NAME.yaml.
struct Preset {
  const char* name;
  const char* yaml;
};
std::span<const Preset> presets();
/// By its name, or another name of it (options/other_names.h); Usage with the nearest name if there
/// is none.
Result<const Preset*> find_preset(const std::string& name);

}  // namespace rwkv::press

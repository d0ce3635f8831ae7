// What a sweep is told: a recipe, axes along which it varies, and what is measured of each point.
// Read from YAML (docs/sweeps.md); keys that are not known are refused with the nearest name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/evaluate/measure.h"
#include "compressor/recipe/recipe.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// One setting and its values: "low_rank.factor", or a bare stage, which is `on` or `off`.
struct SweepAxis {
  std::string name;
  std::vector<std::string> values;  ///< YAML, one line each

  bool is_stage() const { return name.find('.') == std::string::npos; }
};

/// What is measured of every point. Paths are as the run finds them.
struct SweepEvaluation {
  EvaluationFiles files;
  uint64_t max_tokens = 0;      ///< of each text; 0: all
  bool reference = true;        ///< compare with the dense model in f32 over the texts
  bool speed = true;            ///< tokens per second
  std::string memory = "auto";  ///< mode of the runtime; auto: sparse where something is sparse

  bool empty() const {
    return files.texts.empty() && files.clozes.empty() && files.choices.empty();
  }
};

struct SweepSettings {
  std::string name;
  std::string origin;  ///< the file, for messages
  std::string recipe;  ///< YAML
  std::string recipe_origin;
  std::vector<SweepAxis> axes;
  bool ablation = false;
  bool references = true;  ///< the dense model and int8 are points too
  SweepEvaluation evaluation;
};

/// The keys of `evaluate`.
Settings evaluation_settings(SweepEvaluation& evaluation);

/// `text` is YAML, `path` its file: names messages, and files that the sweep names are relative to
/// it. Reads a recipe's file. Usage for anything that is not known or of the wrong kind.
Result<SweepSettings> parse_sweep(const std::string& text, const std::string& path);

}  // namespace rwkv::press

// The key `budget` of a recipe: the limits of a plan.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/options/settings.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct Budget {
  uint64_t resident = 0;          ///< bytes in memory; 0: any
  uint64_t size = 0;              ///< bytes of the packed file; 0: any
  std::string memory = "any";     ///< or loaded, sparse, streamed
  uint64_t embedding_cache = 64;  ///< rows of the embedding kept in memory in sparse mode
  double min_speed = 0;           ///< tokens per second; 0: any
  /// Bytes per second of the device's storage, for models that are streamed; 0: none is.
  uint64_t read_speed = 0;
  uint64_t samples = 32;  ///< stretches of text on which losses are measured
  uint64_t rounds = 4;    ///< at most this many rounds of improving the choice
  /// Codecs to choose from, besides f16; empty: the planner's own ladder.
  std::vector<std::string> codecs = {};

  bool pairs = true;  ///< also as factor pairs
  /// Whether the losses of matrices are measured one by one or estimated; auto: by the model's
  /// size.
  std::string losses = "auto";
  /// Whether the plan is packed and measured; auto: by the model's size.
  std::string check = "auto";

  /// At least one of the two limits.
  bool has_limit() const { return resident > 0 || size > 0; }
};

/// The keys of `budget`.
Settings budget_settings(Budget& budget);
/// Reads the value of `budget`, a map. Usage for unknown keys, with the nearest, for values out of
/// range, and if it limits nothing.
Result<Budget> read_budget(const YAML::Node& node);
void emit_budget(YAML::Emitter& out, Budget budget);

}  // namespace rwkv::press

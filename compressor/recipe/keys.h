// Every key of recipes and sweeps, with its default and its range: for people as a table, for
// editors as a JSON schema. Both are made from the settings themselves.
#pragma once

#include <string>
#include <vector>

#include "compressor/options/settings.h"

namespace rwkv::press {

struct KeyGroup {
  struct Key {
    std::string name, value, expected, help, schema;
  };
  std::string owner;  ///< "calibration", "budget", or a stage
  std::vector<Key> keys;
  bool is_stage = false;
};

/// The settings of one owner as texts, `value` being the value in force.
KeyGroup keys_of(const std::string& owner, const Settings& settings);
/// Of a recipe: calibration, budget, and the stages in their order.
std::vector<KeyGroup> recipe_keys();

/// JSON schemas, as text. `evaluation` are the keys of a sweep's `evaluate`.
std::string recipe_schema();
std::string sweep_schema(const KeyGroup& evaluation);

}  // namespace rwkv::press

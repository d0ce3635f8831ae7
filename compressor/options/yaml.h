// The one way in which YAML from outside is read: recipes, sweeps, configurations of trainings.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

/// The one document in `text`. Usage, with the lines, for what would be read otherwise than it
/// looks: a key that occurs twice in a map, a merge key, another document. Usage as well for what
/// would grow: more than 64 levels, 100,000 values or 4 MiB of text with every alias written out,
/// or an alias to what it stands in. Throws YAML::Exception if it is not YAML.
Result<YAML::Node> load_yaml(const std::string& text);

}  // namespace rwkv::press

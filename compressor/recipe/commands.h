// Commands that stages of a recipe have a shell run. A recipe may come from anybody, so none runs
// unless the user allowed it (--allow-external).
#pragma once

#include <string>
#include <vector>

#include "compressor/recipe/recipe.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// One line for each command, complete, safe to show on a terminal: "stage external runs: CMD".
std::vector<std::string> commands_of(const Recipe& recipe);

/// Usage, with `origin` (of the recipe) and the first of `commands`, unless there are none or they
/// are `allowed`.
Status check_commands(const std::vector<std::string>& commands, const std::string& origin,
                      bool allowed);

}  // namespace rwkv::press

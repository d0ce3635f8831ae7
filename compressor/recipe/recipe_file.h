// Where the text of a recipe comes from: a YAML file, or a packed file, which holds the recipe that
// made it.
#pragma once

#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

struct RecipeText {
  std::string yaml;
  std::string origin;  ///< for messages; says so if it is the recipe in a packed file
};

/// A text of at most 1 MiB, or the recipe in the GGUF file at `path`. BadInput for a packed file
/// without a recipe.
Result<RecipeText> read_recipe_file(const std::string& path);

}  // namespace rwkv::press

// Commands that every program has and that are made from its table of commands.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "formats/cli/command.h"

namespace rwkv::cli {

struct BuiltIn {
  const char* name;
  const char* positional;  ///< for the usage line
  const char* summary;
  Status (*run)(const Program& program, std::span<const std::string> words);
};

std::span<const BuiltIn> built_ins();
/// nullptr if there is none with this name.
const BuiltIn* find_built_in(std::string_view name);

}  // namespace rwkv::cli

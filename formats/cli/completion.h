// Completion for shells, made from the tables of commands and options.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "formats/cli/command.h"

namespace rwkv::cli {

/// The shells that there is a script for.
std::span<const std::string_view> shell_names();

/// The script that completes `program` in `shell`; empty for an unknown shell.
std::string completion_script(const Program& program, std::string_view shell);

}  // namespace rwkv::cli

// The manual page of a program, made from the tables of commands and options.
#pragma once

#include <string>

#include "formats/cli/command.h"

namespace rwkv::cli {

/// The page in the language of man(7).
std::string man_page(const Program& program);

}  // namespace rwkv::cli

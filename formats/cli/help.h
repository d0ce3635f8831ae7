// What --help prints, as wide as the terminal.
#pragma once

#include <string>
#include <string_view>

#include "formats/cli/option_table.h"

namespace rwkv::cli {

/// Characters in a line of standard output: COLUMNS, else the terminal's, else 80; 40 to 120.
size_t output_width();

/// `text` broken at spaces into lines of at most `width` characters; `indent` spaces, which do not
/// count, stand before each line but the first. A longer word has a line of its own.
std::string wrapped(std::string_view text, size_t width, size_t indent);

/// The description of an option with its default.
std::string described(const OptionRow& row);

/// The page of a program: its commands.
std::string program_help(const Program& program, size_t width);

/// The page of a command: its options.
std::string command_help(const Program& program, const Command& command,
                         std::span<const OptionRow> rows, size_t width);

}  // namespace rwkv::cli

// The only way in which the executables print: what comes from files and from names cannot send
// escape sequences to a terminal (formats/base/printable.h). A check refuses any other printing.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "formats/base/status.h"

namespace rwkv::cli {

/// Text of any number of lines, made printable.
void print_lines(std::FILE* out, std::string_view text);

/// Formats and prints as print_lines().
template <typename... Args>
void print(std::FILE* out, fmt::format_string<Args...> format, const Args&... args) {
  print_lines(out, fmt::vformat(format, fmt::make_format_args(args...)));
}
/// On standard output.
template <typename... Args>
void print(fmt::format_string<Args...> format, const Args&... args) {
  print_lines(stdout, fmt::vformat(format, fmt::make_format_args(args...)));
}

/// A value of JSON on standard output, and a newline: the same value for every parser.
void print_json(std::string_view json);

/// What a model wrote or decoded, on standard output: as printable_stream() if that is a terminal,
/// byte for byte if it is a pipe or a file.
void print_text(std::string_view text);

/// The failure of a program or of a step that goes on: "NAME: error: MESSAGE", on one line.
void print_error(const char* name, const Status& status);

}  // namespace rwkv::cli

#include "formats/cli/help.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "formats/cli/built_ins.h"

namespace rwkv::cli {
namespace {

constexpr size_t kUsualWidth = 80;
constexpr size_t kLeastWidth = 40;
constexpr size_t kMostWidth = 120;
// Below this, descriptions stand below their options and not beside them.
constexpr size_t kTwoColumns = 64;

/// `heading` and `description`, beside each other from `column` on, or below each other.
std::string entry(std::string_view heading, std::string_view description, size_t column,
                  size_t width) {
  std::string text = fmt::format("  {}", heading);
  if (width < kTwoColumns) {
    column = 6;
  }
  text += text.size() + 2 <= column ? std::string(column - text.size(), ' ')
                                    : "\n" + std::string(column, ' ');
  return text + wrapped(description, width - column, column) + "\n";
}

}  // namespace

size_t output_width() {
  size_t width = kUsualWidth;
  winsize size = {};
  if (const char* columns = std::getenv("COLUMNS"); columns && std::atoi(columns) > 0) {
    width = static_cast<size_t>(std::atoi(columns));
  } else if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    width = size.ws_col;
  }
  return std::clamp(width, kLeastWidth, kMostWidth);
}

std::string wrapped(std::string_view text, size_t width, size_t indent) {
  std::string out;
  size_t column = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    if (column > 0 && column + 1 + word.size() > width) {
      out += "\n" + std::string(indent, ' ');
      column = 0;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string program_help(const Program& program, size_t width) {
  constexpr size_t kColumn = 17;
  std::string text =
      fmt::format("{}: {}\n\nUsage: {} COMMAND ...\n", program.name, program.summary, program.name);
  if (program.usage) {
    text += fmt::format("       {} {}\n", program.name, program.usage);
  }
  text += "\nCommands:\n";
  for (const Command& command : program.commands) {
    if (command.summary) {
      text += entry(command.name, command.summary, kColumn, width);
    }
  }
  for (const BuiltIn& built_in : built_ins()) {
    text += entry(built_in.name, built_in.summary, kColumn, width);
  }
  return text + "\n" +
         wrapped(fmt::format("'{} COMMAND --help' shows the options of a command.", program.name),
                 width, 0) +
         "\n";
}

std::string command_help(const Program& program, const Command& command,
                         std::span<const OptionRow> rows, size_t width) {
  constexpr size_t kColumn = 30;
  std::string text = command.summary ? wrapped(command.summary, width, 0) + "\n\n" : "";
  text += wrapped(fmt::format("Usage: {} {} [OPTIONS] {}", program.name, command.name,
                              command.positional),
                  width, 7) +
          "\n\nOptions:\n";
  for (const OptionRow& row : rows) {
    text += entry(row.heading(), described(row), kColumn, width);
  }
  return text;
}

std::string described(const OptionRow& row) {
  return row.default_value.empty()
             ? row.description
             : fmt::format("{} (default: {})", row.description, row.default_value);
}

}  // namespace rwkv::cli

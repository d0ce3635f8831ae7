#include "formats/cli/man_page.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/cli/built_ins.h"
#include "formats/cli/help.h"
#include "formats/cli/option_table.h"
#include "formats/cli/version.h"

namespace rwkv::cli {
namespace {

/// `text` as roff prints it: backslashes and dashes as they are, no line that is a request.
std::string printed(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool begins_line = out.empty() || out.back() == '\n';
    if (begins_line && (c == '.' || c == '\'')) {
      out += "\\&";
    }
    out += c == '\\' ? "\\e" : c == '-' ? "\\-" : std::string(1, c);
  }
  return out;
}

std::string section(std::string_view name) {
  return fmt::format(".SH {}\n", name);
}

std::string command_section(const Program& program, const Command& command) {
  std::string text = fmt::format(
      ".SS {}\n{}.\n.PP\n.B {} {}\n[OPTIONS] {}\n", printed(command.name), printed(command.summary),
      printed(program.name), printed(command.name), printed(command.positional));
  for (const OptionRow& row : declared_options(program, command).rows) {
    text += fmt::format(".TP\n.B {}\n{}\n", printed(row.heading()), printed(described(row)));
  }
  return text;
}

}  // namespace

std::string man_page(const Program& program) {
  std::string upper = program.name;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  std::string text = fmt::format(".TH {} 1 \"\" \"{} {}\" \"User Commands\"\n", printed(upper),
                                 printed(program.name), kVersion);
  text +=
      section("NAME") + fmt::format("{} \\- {}\n", printed(program.name), printed(program.summary));
  text += section("SYNOPSIS") + fmt::format(".B {}\nCOMMAND [OPTIONS]\n", printed(program.name));
  if (program.usage) {
    text += fmt::format(".br\n.B {}\n{}\n", printed(program.name), printed(program.usage));
  }
  text += section("COMMANDS");
  for (const Command& command : program.commands) {
    if (command.summary) {
      text += command_section(program, command);
    }
  }
  for (const BuiltIn& built_in : built_ins()) {
    text += fmt::format(".SS {}\n{}.\n.PP\n.B {} {}\n{}\n", printed(built_in.name),
                        printed(built_in.summary), printed(program.name), printed(built_in.name),
                        printed(built_in.positional));
  }
  text += section("EXIT STATUS") +
          ".TP\n0\nsuccess\n.TP\n1\nthe work failed\n.TP\n2\nthe request is invalid\n"
          ".TP\n3\na file or a text is damaged, or is not what was expected\n.PP\n"
          "Results go to standard output, everything else to standard error.\n";
  return text;
}

}  // namespace rwkv::cli

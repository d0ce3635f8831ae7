// The options of a command as a table. Help, man pages, shell completion and the check of what was
// typed are all made from it, so that they cannot differ from what the command declares.
#pragma once

#include <cxxopts.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"
#include "formats/cli/command.h"

namespace rwkv::cli {

/// The argument of options whose value is text and not a path: "~" at its beginning is no folder.
inline constexpr const char* kTextArgument = "TEXT";
/// The arguments of options that name a file or a folder, which shells complete.
inline constexpr const char* kFileArgument = "FILE";
inline constexpr const char* kFolderArgument = "FOLDER";

struct OptionRow {
  std::string short_name;               ///< "-o", or empty
  std::vector<std::string> long_names;  ///< "--output"; the first is the one to show, if any
  std::string description;
  std::string argument;  ///< "FILE"; "a|b" for a choice; empty if the option takes no value
  std::string default_value;
  bool is_positional = false;

  bool takes_value() const { return !argument.empty(); }
  bool names_file() const { return argument == kFileArgument || argument == kFolderArgument; }
  /// "-o, --output FILE"; names that another program gave the option stand behind.
  std::string heading() const;
  /// The values of a choice, or nothing.
  std::vector<std::string> choices() const;
};

/// What `command` declares, with --help, and the parser of it.
struct DeclaredOptions {
  cxxopts::Options parser;
  std::vector<OptionRow> rows;
};
DeclaredOptions declared_options(const Program& program, const Command& command);

/// `words` (without the program's name) as the parser takes them: "-oVALUE" as two words, since the
/// parser would take it apart with a recursion as deep as the value is long; "~" at the beginning
/// of a value that no shell has expanded ("--output=~/x") as the home folder. Usage for an option
/// that the table does not have and for one whose value is missing.
Result<std::vector<std::string>> checked_words(std::span<const OptionRow> rows,
                                               std::span<const std::string> words);

}  // namespace rwkv::cli

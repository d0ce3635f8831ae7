#include "formats/cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "formats/cli/built_ins.h"
#include "formats/cli/option_table.h"

namespace rwkv::cli {
namespace {

/// A command as a script needs it.
struct Entry {
  std::string name;
  std::string summary;
  std::vector<OptionRow> rows;
  std::vector<std::string> words;  ///< what may stand behind a built-in command
};

std::vector<Entry> entries_of(const Program& program) {
  std::vector<Entry> entries;
  for (const Command& command : program.commands) {
    if (command.summary) {
      entries.push_back(
          {command.name, command.summary, declared_options(program, command).rows, {}});
    }
  }
  for (const BuiltIn& built_in : built_ins()) {
    OptionRow words;
    words.argument = built_in.positional;
    entries.push_back({built_in.name, built_in.summary, {}, words.choices()});
  }
  return entries;
}

std::vector<std::string> names_of(const OptionRow& row) {
  std::vector<std::string> names = row.long_names;
  if (!row.short_name.empty()) {
    names.insert(names.begin(), row.short_name);
  }
  return names;
}

/// The name of a shell function for `program`.
std::string function_name(const Program& program) {
  std::string name = fmt::format("_{}", program.name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

/// `text` with a backslash before each character of `special`.
std::string guarded(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) {
      out += '\\';
    }
    out += c;
  }
  return out;
}

/// `text` as one word in single quotes, for shells of any kind.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out + "'";
}

std::string for_bash(const Program& program) {
  const std::vector<Entry> entries = entries_of(program);
  std::vector<std::string> commands;
  std::string values;   // cases of options that take a value
  std::string options;  // cases of commands
  for (const Entry& entry : entries) {
    commands.push_back(entry.name);
    std::vector<std::string> names;
    for (const OptionRow& row : entry.rows) {
      const std::vector<std::string> all = names_of(row);
      names.insert(names.end(), all.begin(), all.end());
      if (row.takes_value()) {
        std::vector<std::string> patterns;
        for (const std::string& name : all) {
          patterns.push_back(entry.name + ":" + name);
        }
        values += fmt::format("    {}) choices={}; is_value={} ;;\n", fmt::join(patterns, " | "),
                              quoted(fmt::format("{}", fmt::join(row.choices(), " "))),
                              row.names_file() || !row.choices().empty() ? "yes" : "text");
      }
    }
    names.insert(names.end(), entry.words.begin(), entry.words.end());
    options += fmt::format("    {}) choices={} ;;\n", entry.name,
                           quoted(fmt::format("{}", fmt::join(names, " "))));
  }
  // Where COMPREPLY stays empty, bash completes names of files, unless it is told not to.
  return fmt::format(
      "# bash completion of {0}; for example: source <({0} completion bash)\n"
      "{1}() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}\n"
      "  local command='' choices='' is_value=no i\n"
      "  COMPREPLY=()\n"
      "  if [[ $word == = ]]; then\n"
      "    word=''\n"
      "  elif [[ $before == = ]]; then\n"
      "    before=${{COMP_WORDS[COMP_CWORD - 2]}}\n"
      "  fi\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case ${{COMP_WORDS[i]}} in\n"
      "      {2}) command=${{COMP_WORDS[i]}} && break ;;\n"
      "    esac\n"
      "  done\n"
      "  case $command:$before in\n{3}"
      "  esac\n"
      "  if [[ $is_value == no ]]; then\n"
      "    case $command in\n"
      "    '') choices={4} ;;\n{5}"
      "    esac\n"
      "  fi\n"
      "  if [[ $is_value == text ]]; then\n"
      "    compopt +o default +o bashdefault 2> /dev/null\n"
      "  fi\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$choices\" -- \"$word\")\n"
      "}}\n"
      "complete -o bashdefault -o default -F {1} {0}\n",
      program.name, function_name(program), fmt::join(commands, " | "), values,
      quoted(fmt::format("{} help --help --version", fmt::join(commands, " "))), options);
}

std::string for_zsh(const Program& program) {
  std::string commands;
  std::string cases;
  for (const Entry& entry : entries_of(program)) {
    commands += fmt::format("    {}\n", quoted(guarded(entry.name, ":") + ":" + entry.summary));
    cases += fmt::format("    {})\n      _arguments -s", entry.name);
    for (const OptionRow& row : entry.rows) {
      const std::vector<std::string> names = names_of(row);
      const std::vector<std::string> choices = row.choices();
      std::string value;
      if (row.takes_value()) {
        value = choices.empty()
                    ? ":" + guarded(row.argument, ":") + ":"
                    : std::string(":value:(") + fmt::format("{}", fmt::join(choices, " ")) + ")";
        value += !row.names_file() ? "" : row.argument == kFolderArgument ? "_files -/" : "_files";
      }
      for (const std::string& name : names) {
        cases += fmt::format(
            " \\\n        {}",
            quoted(fmt::format("*{}[{}]{}", name, guarded(row.description, "[]:\\"), value)));
      }
    }
    cases += entry.words.empty()
                 ? std::string(" \\\n        '*:file:_files' ;;\n")
                 : fmt::format(" \\\n        '1:word:({})' ;;\n", fmt::join(entry.words, " "));
  }
  return fmt::format(
      "#compdef {0}\n"
      "# zsh completion of {0}; for example: source <({0} completion zsh)\n"
      "{1}() {{\n"
      "  local -a commands=(\n{2}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    _files\n"
      "    return\n"
      "  fi\n"
      "  local name=${{words[2]}}\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $name in\n{3}"
      "    *) _files ;;\n"
      "  esac\n"
      "}}\n"
      "if [[ ${{funcstack[1]}} == _{0} ]]; then\n"
      "  {1} \"$@\"\n"
      "else\n"
      "  compdef {1} {0}\n"
      "fi\n",
      program.name, function_name(program), commands, cases);
}

std::string for_fish(const Program& program) {
  std::string text = fmt::format(
      "# fish completion of {0}; for example: {0} completion fish | source\n", program.name);
  // Inside single quotes fish knows only \' and \\.
  const auto word = [](std::string_view value) { return "'" + guarded(value, "'\\") + "'"; };
  for (const Entry& entry : entries_of(program)) {
    text += fmt::format("complete -c {} -n __fish_use_subcommand -a {} -d {}\n", program.name,
                        word(entry.name), word(entry.summary));
    const std::string seen = word(fmt::format("__fish_seen_subcommand_from {}", entry.name));
    if (!entry.words.empty()) {
      text += fmt::format("complete -c {} -n {} -f -a {}\n", program.name, seen,
                          word(fmt::format("{}", fmt::join(entry.words, " "))));
    }
    for (const OptionRow& row : entry.rows) {
      text += fmt::format("complete -c {} -n {}", program.name, seen);
      for (const std::string& name : names_of(row)) {
        text += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                                       : fmt::format(" -s {}", name.substr(1));
      }
      const std::vector<std::string> choices = row.choices();
      if (!choices.empty()) {
        text += fmt::format(" -x -a {}", word(fmt::format("{}", fmt::join(choices, " "))));
      } else if (row.takes_value()) {
        text += row.names_file() ? " -r -F" : " -x";
      }
      const bool is_named = row.takes_value() && choices.empty();
      text += fmt::format(" -d {}\n",
                          word(is_named ? row.argument + ": " + row.description : row.description));
    }
  }
  return text;
}

struct Shell {
  std::string_view name;
  std::string (*script)(const Program& program);
};

constexpr std::array<Shell, 3> kShells = {
    {{"bash", for_bash}, {"zsh", for_zsh}, {"fish", for_fish}}};

}  // namespace

std::span<const std::string_view> shell_names() {
  static const std::array<std::string_view, kShells.size()> kNames = [] {
    std::array<std::string_view, kShells.size()> names;
    std::transform(kShells.begin(), kShells.end(), names.begin(),
                   [](const Shell& shell) { return shell.name; });
    return names;
  }();
  return kNames;
}

std::string completion_script(const Program& program, std::string_view shell) {
  for (const Shell& known : kShells) {
    if (known.name == shell) {
      return known.script(program);
    }
  }
  return {};
}

}  // namespace rwkv::cli

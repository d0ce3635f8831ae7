#include "formats/cli/built_ins.h"

#include <fmt/format.h>

#include <array>

#include "formats/base/nearest.h"
#include "formats/cli/completion.h"
#include "formats/cli/man_page.h"
#include "formats/cli/print.h"

namespace rwkv::cli {
namespace {

Status run_completion(const Program& program, std::span<const std::string> words) {
  const auto shells = shell_names();
  if (words.size() != 1) {
    return usage_error("completion: expected the name of one shell, found {} words; there are: {}",
                       words.size(), fmt::join(shells, ", "));
  }
  const std::string script = completion_script(program, words[0]);
  if (script.empty()) {
    return usage_error("completion: unknown shell '{}'{}", words[0], suggestion(words[0], shells));
  }
  print("{}", script);
  return {};
}

Status run_man(const Program& program, std::span<const std::string> words) {
  if (!words.empty()) {
    return usage_error("man: unexpected argument '{}'", words[0]);
  }
  print("{}", man_page(program));
  return {};
}

constexpr std::array<BuiltIn, 2> kBuiltIns = {{
    {"completion", "bash|zsh|fish", "Print the completion of commands and options for a shell",
     run_completion},
    {"man", "", "Print the manual page, for 'man -l -'", run_man},
}};

}  // namespace

std::span<const BuiltIn> built_ins() {
  return kBuiltIns;
}

const BuiltIn* find_built_in(std::string_view name) {
  for (const BuiltIn& built_in : kBuiltIns) {
    if (name == built_in.name) {
      return &built_in;
    }
  }
  return nullptr;
}

}  // namespace rwkv::cli

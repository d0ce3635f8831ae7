// rwkv-press recipes: the presets with what they cost and give, every key of a recipe, and JSON
// schemas for editors.
#include <algorithm>
#include <sstream>

#include "compressor/recipe/keys.h"
#include "compressor/sweep/settings.h"
#include "compressor/tools/commands.h"
#include "formats/base/nearest.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"

namespace rwkv::press {
namespace {

constexpr const char* kKeys = "keys";

std::vector<std::string> header_of(const Preset& preset) {
  std::vector<std::string> lines;
  std::istringstream yaml(preset.yaml);
  for (std::string line; std::getline(yaml, line) && line.starts_with("#");) {
    lines.push_back(line);
  }
  return lines;
}

void print_presets() {
  cli::print(
      "Presets, and their figures on the demo model (5.1 million parameters, configs/demo):\n");
  for (const Preset& preset : presets()) {
    cli::print("\n{}\n", preset.name);
    for (const std::string& line : header_of(preset)) {
      cli::print("  {}\n", line.substr(std::min<size_t>(2, line.size())));
    }
  }
  cli::print(
      "\nrwkv-press recipes NAME shows a preset, recipes KEYS every key; what a preset gives of\n"
      "your model, without converting it: rwkv-press plan MODEL --preset NAME\n");
}

void print_group(const KeyGroup& group) {
  cli::print("\n{}{}\n", group.is_stage ? "stage " : "", group.owner);
  for (const KeyGroup::Key& key : group.keys) {
    cli::print("  {:<14} {:<12} {}; {}\n", key.name, key.value, key.expected, key.help);
  }
}

void print_keys(const KeyGroup& evaluation) {
  cli::print("key, default, what is allowed; name, seed and preset stand at the top of a recipe\n");
  for (const KeyGroup& group : recipe_keys()) {
    print_group(group);
  }
  cli::print("\nin a sweep\n");
  print_group(evaluation);
}

Status print_schema(const std::string& kind, const KeyGroup& evaluation) {
  if (kind != "recipe" && kind != "sweep") {
    return usage_error("--schema: expected 'recipe' or 'sweep', found '{}'", kind);
  }
  cli::print("{}", kind == "recipe" ? recipe_schema() : sweep_schema(evaluation));
  return {};
}

bool is_word_for_keys(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  return word == kKeys;
}

}  // namespace

void declare_recipes(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("name", "A preset to show, KEYS, or the kind of a schema",
                        cxxopts::value<std::string>(),
                        "NAME")("keys", "Every key with its default and range")(
      "schema", "Print the JSON schema of recipes for editors; with the word sweep, of sweeps");
  positionals = {"name"};
}

Status run_recipes(const cxxopts::ParseResult& arguments) {
  SweepEvaluation defaults;
  const KeyGroup evaluation = keys_of("evaluate", evaluation_settings(defaults));
  const std::string name = arguments.count("name") > 0 ? arguments["name"].as<std::string>() : "";
  if (arguments.count("schema") > 0) {
    return print_schema(name.empty() ? "recipe" : name, evaluation);
  }
  if (arguments.count("keys") > 0 || is_word_for_keys(name)) {
    print_keys(evaluation);
  } else if (name.empty()) {
    print_presets();
  } else {
    RWKV_ASSIGN(const Preset* preset, find_preset(name));
    cli::print("{}", preset->yaml);
  }
  return {};
}

}  // namespace rwkv::press

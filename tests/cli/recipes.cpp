// rwkv-press recipes: presets with their figures, keys, and schemas that fit what is accepted.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/checks.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;
using Json = nlohmann::json;

namespace {

constexpr const char* kPresets[] = {
    "fp32",           "fp16",           "int8",           "lut4",           "lut3",         "mm8",
    "rwkv-lite-fp16", "rwkv-lite-int8", "rwkv-lite-lut4", "rwkv-lite-lut3", "rwkv-lite-max"};

std::string megabytes(uint64_t bytes) {
  return fmt::format("{:.{}f} MB", static_cast<double>(bytes) * 1e-6, bytes < 10'000'000 ? 2 : 1);
}

// The figures that `recipes` lists of a preset: "# Demo: ... loaded 6.48 MB, ...".
std::string figures_of(const std::string& preset) {
  const std::string text = output_of("rwkv-press", {"recipes", preset});
  const size_t at = text.find("# Demo: ");
  REQUIRE(at != std::string::npos);
  return text.substr(at, text.find('\n', at) - at);
}

}  // namespace

TEST_CASE("Presets are listed with what they take, as plans of the demo model say it",
          "[recipes]") {
  const std::string all = output_of("rwkv-press", {"recipes"});
  const std::string demo = std::string(RWKV_SOURCE_DIR) + "/configs/demo/";
  for (const char* preset : kPresets) {
    INFO(preset);
    CHECK_THAT(all, Contains(fmt::format("\n{}\n", preset)));
    const Json plan =
        Json::parse(output_of("rwkv-press", {"plan", demo + "demo.pth", "--preset", preset,
                                             "--vocab", demo + "vocab.txt", "--json"}));
    const std::string figures = figures_of(preset);
    for (const Json& mode : plan["device"]) {
      const std::string name = mode["mode"].get<std::string>();
      if (name == "loaded" || name == "sparse" || name == "layerwise") {
        CHECK_THAT(figures, Contains(name + " " + megabytes(mode["resident"].get<uint64_t>())));
      }
    }
  }
}

TEST_CASE("Every key is listed with its default and range", "[recipes]") {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"recipes", "KEYS"}, {"recipes", "--keys"}}) {
    const std::string keys = output_of("rwkv-press", words);
    for (const char* line : {"stage low_rank", "factor         8", "stage quantize",
                             "min_numbers    4096", "budget", "evaluate", "an integer from"}) {
      CHECK_THAT(keys, Contains(line));
    }
  }
  check_refused("rwkv-press", {"recipes", "int9"}, 2, "did you mean 'int8'?");
  check_refused("rwkv-press", {"recipes", "recepe", "--schema"}, 2, "'recipe' or 'sweep'");
}

TEST_CASE("The schemas allow every key that is listed, and no other", "[recipes]") {
  const Json recipe = Json::parse(output_of("rwkv-press", {"recipes", "--schema"}));
  const Json sweep = Json::parse(output_of("rwkv-press", {"recipes", "sweep", "--schema"}));
  CHECK(recipe["additionalProperties"] == false);
  CHECK(sweep["properties"].contains("axes"));
  CHECK_FALSE(sweep["properties"].contains("budget"));
  const Json& stages = recipe["properties"]["stages"]["items"]["anyOf"][1]["properties"];
  CHECK(stages.contains("low_rank"));
  const Json& quantize = stages["quantize"]["anyOf"][0];
  CHECK(quantize["additionalProperties"] == false);
  CHECK_THAT(quantize["properties"]["codec"]["enum"].dump(), Contains("int8") && Contains("f16"));
  CHECK(quantize["properties"]["min_numbers"]["minimum"] == 0);
}

TEST_CASE("The schemas accept the recipes and sweeps of the project", "[recipes]") {
  // An implementation that is not ours; not every machine has it.
  const std::string check =
      "import json, sys, yaml, jsonschema\n"
      "schema = json.load(open(sys.argv[1]))\n"
      "jsonschema.Draft7Validator.check_schema(schema)\n"
      "for path in sys.argv[3:]:\n"
      "    found = jsonschema.Draft7Validator(schema).is_valid(yaml.safe_load(open(path)))\n"
      "    assert found == (sys.argv[2] == 'good'), path\n";
  if (run("/usr/bin/env", {"python3", "-c", "import jsonschema, yaml"}).exit_code != 0) {
    WARN("python3 has no jsonschema; the schemas were not tried");
    return;
  }
  const ScratchFolder scratch;
  write_text(scratch.file("recipe.json"), output_of("rwkv-press", {"recipes", "--schema"}));
  write_text(scratch.file("sweep.json"), output_of("rwkv-press", {"recipes", "sweep", "--schema"}));
  write_text(scratch.file("a.yaml"),
             "preset: int8\nseed: 3\nstages:\n  - quantize: {codec: int8}\n  - low_rank: off\n");
  write_text(scratch.file("b.yaml"), "stages:\n  - quantize: {codek: f16}\n");
  write_text(scratch.file("c.yaml"), "stages:\n  - low_rank: {factor: 0}\n");
  const std::string configs = std::string(RWKV_SOURCE_DIR) + "/configs/";
  const auto checked = [&](const char* schema, const char* how, std::vector<std::string> files) {
    std::vector<std::string> all = {"python3", "-c", check, scratch.file(schema), how};
    all.insert(all.end(), files.begin(), files.end());
    const RunResult result = run("/usr/bin/env", all);
    INFO(result.err);
    CHECK(result.exit_code == 0);
  };
  std::vector<std::string> recipes = {scratch.file("a.yaml"), configs + "demo/rwkv-lite-int8.yaml"};
  for (const char* preset : kPresets) {
    recipes.push_back(configs + preset + ".yaml");
  }
  checked("recipe.json", "good", recipes);
  checked("recipe.json", "bad", {scratch.file("b.yaml"), scratch.file("c.yaml")});
  checked("sweep.json", "good", {configs + "sweep/demo-k.yaml", configs + "sweep/tiny.yaml"});
}

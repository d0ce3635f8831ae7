// Recipes are checked completely before any work: every wrong key or value is named, with the
// nearest right one; what is accepted survives a round trip through the packed file's copy.
#include "compressor/recipe/recipe.h"

#include <map>

#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using Catch::Contains;

namespace {

std::string refused(const std::string& yaml, const std::vector<std::string>& set = {}) {
  const auto recipe = press::parse_recipe(yaml, "r.yaml", set);
  REQUIRE_FALSE(recipe.ok());
  CHECK(recipe.status().code() == Code::Usage);
  CHECK(recipe.status().message().find('\n') == std::string::npos);
  return recipe.status().message();
}

}  // namespace

TEST_CASE("Recipe names unknown keys and the nearest right ones", "[recipe]") {
  CHECK_THAT(refused("stagez: []"), Contains("'stagez'") && Contains("stages"));
  CHECK_THAT(refused("stages:\n  - quantise: {}"), Contains("'quantise'") && Contains("quantize"));
  CHECK_THAT(refused("stages:\n  - quantize: {codek: f16}"),
             Contains("quantize.codek") && Contains("codec") && Contains("line 2"));
  CHECK_THAT(refused("stages:\n  - quantize: {codec: i8row}"),
             Contains("'i8row'") && Contains("i8_row"));
  CHECK_THAT(refused("stages:\n  - quantize: {overrides: [{mach: a, codec: f16}]}"),
             Contains("match"));
}

TEST_CASE("Recipe refuses values of the wrong kind", "[recipe]") {
  refused("[]");
  refused("just text");
  refused("stages: 5");
  refused("stages:\n  - [a]");
  refused("stages:\n  - quantize: 5");
  refused("stages:\n  - quantize: {codec: [f16]}");
  refused("stages:\n  - quantize: {min_numbers: -1}");
  refused("stages:\n  - quantize: {overrides: f16}");
  refused("stages:\n  - quantize: {}\n  - quantize: {}");
  refused("seed: x\nstages: []");
  CHECK_THAT(refused("stages: [\n"), Contains("not valid YAML"));
  CHECK_THAT(refused("a: &x [*x]\nstages: []"), Contains("r.yaml"));
  refused(std::string(100000, '['));
}

TEST_CASE("Leaving out or adding one stage of a preset changes no other", "[recipe]") {
  const auto stages_of = [](const std::string& yaml) {
    const auto recipe = press::parse_recipe(yaml, "r.yaml", {});
    REQUIRE_OK(recipe.status());
    std::map<std::string, std::string> stages;
    for (const auto& stage : recipe.value().stages) {
      YAML::Emitter out;
      stage->settings().emit(out);
      stages[stage->name()] = out.c_str();
    }
    return stages;
  };
  const auto all = stages_of("preset: rwkv-lite-int8\n");
  REQUIRE(all.size() == 4);
  for (const auto& [name, settings] : all) {
    auto expected = all;
    expected.erase(name);
    CHECK(stages_of("preset: rwkv-lite-int8\nstages:\n  - " + name + ": off\n") == expected);
  }
  auto without_two = all;
  without_two.erase("low_rank");
  without_two.erase("cluster_head");
  CHECK(stages_of("preset: rwkv-lite-int8\nstages:\n  - low_rank: off\n"
                  "  - cluster_head: off\n") == without_two);
  auto more = stages_of(
      "preset: rwkv-lite-int8\nstages:\n  - refit\n  - train: {data: [a.txt]}\n"
      "  - ffn_predictor: off\n");
  CHECK(more.erase("refit") == 1);
  CHECK(more.erase("train") == 1);
  auto expected = all;
  expected.erase("ffn_predictor");
  CHECK(more == expected);
}

TEST_CASE("Settings on the command line win and are checked alike", "[recipe]") {
  const std::string yaml = "stages:\n  - quantize: {codec: f16}";
  const auto recipe =
      press::parse_recipe(yaml, "r.yaml", std::vector<std::string>{"quantize.codec=i8_row"});
  REQUIRE_OK(recipe.status());
  CHECK_THAT(recipe.value().effective_yaml(), Contains("codec: i8_row"));
  refused(yaml, {"quantize.codec"});
  refused(yaml, {"quantise.codec=f16"});
  refused(yaml, {"quantize.codex=f16"});
  refused(yaml, {"quantize.codec=["});
}

TEST_CASE("The effective recipe reads back as itself", "[recipe]") {
  for (const press::Preset& preset : press::presets()) {
    const auto recipe = press::parse_recipe(preset.yaml, preset.name, {});
    REQUIRE_OK(recipe.status());
    CHECK(recipe.value().name == preset.name);
    const std::string effective = recipe.value().effective_yaml();
    const auto again = press::parse_recipe(effective, "again", {});
    REQUIRE_OK(again.status());
    CHECK(again.value().effective_yaml() == effective);
  }
}

TEST_CASE("Overrides go to the tensors they match, and must match one", "[recipe]") {
  const test::ScratchFolder scratch;
  Identified model;
  for (const char* name : {"emb.weight", "head.weight"}) {
    TensorBinding binding;
    binding.name = name;
    binding.role = std::string(name) == "emb.weight" ? Role::Embedding : Role::Head;
    binding.shape = {100, 64};
    model.tensors.push_back(binding);
  }
  const auto plan_with = [&](const std::string& overrides, press::PackPlan& plan) {
    const auto recipe = press::parse_recipe(
        "stages:\n  - quantize: {codec: i8_row, overrides: " + overrides + "}", "r.yaml", {});
    REQUIRE_OK(recipe.status());
    plan = press::plan_for(model);
    return recipe.value().stages[0]->plan(plan);
  };
  press::PackPlan plan;
  REQUIRE_OK(plan_with("[{match: 'head*', codec: f32}]", plan));
  CHECK(plan.tensors[0].codec == Codec::I8Row);
  CHECK(plan.config.ln0_folded);
  CHECK(plan.tensors[1].codec == Codec::F32);
  REQUIRE_OK(plan_with("[{match: 'emb*', codec: f16}]", plan));
  CHECK_FALSE(plan.config.ln0_folded);
  CHECK_FALSE(plan_with("[{match: 'nothing*', codec: f16}]", plan).ok());
}

TEST_CASE("A recipe may start from a preset and change it", "[recipe]") {
  const auto effective = [](const std::string& yaml) {
    const auto recipe = press::parse_recipe(yaml, "r.yaml", {});
    REQUIRE_OK(recipe.status());
    return recipe.value().effective_yaml();
  };
  const std::string int8 = effective("name: x\npreset: int8\n");
  CHECK_THAT(int8, Contains("codec: i8_row") && Contains("min_numbers: 4096"));
  CHECK(effective("name: x\nstages:\n  - quantize: {codec: i8_row, lora_codec: f16}\n") == int8);
  // Settings change one by one, stages are added at their place or left out.
  const std::string changed = effective(
      "name: x\npreset: rwkv-lite-int8\nseed: 7\ncalibration: {samples: 9}\nstages:\n"
      "  - low_rank: {factor: 4}\n  - refit\n  - ffn_predictor: off\n");
  CHECK_THAT(changed, Contains("seed: 7") && Contains("samples: 9") && Contains("length: 256") &&
                          Contains("factor: 4") && Contains("clusters: 200") &&
                          !Contains("ffn_predictor"));
  CHECK(changed.find("refit") > changed.find("low_rank"));
  CHECK(changed.find("refit") < changed.find("cluster_head"));
  CHECK_THAT(refused("preset: int9"), Contains("did you mean 'int8'?"));
  CHECK_THAT(refused("preset: int8\nstages:\n  - refit: off"), Contains("no such stage"));
  CHECK_THAT(refused("preset: int8\nstages:\n  - quantize: {codek: f16}"), Contains("codek"));
  CHECK_THAT(refused("preset: int8\nbudget: {resident: 1MB}"), Contains("found both"));
}

TEST_CASE("Codecs and presets are known by the names that people use", "[recipe]") {
  const auto effective = [](const std::string& codec) {
    const auto recipe =
        press::parse_recipe("name: x\nstages:\n  - quantize: {codec: " + codec + "}", "r.yaml", {});
    REQUIRE_OK(recipe.status());
    return recipe.value().effective_yaml();
  };
  CHECK(effective("int8") == effective("i8_row"));
  CHECK(effective("fp16") == effective("f16"));
  CHECK(effective("half") == effective("f16"));
  CHECK(effective("fp32") == effective("f32"));
  const auto preset_named = [](const char* name) {
    const auto preset = press::find_preset(name);
    REQUIRE_OK(preset.status());
    return std::string(preset.value()->name);
  };
  CHECK(preset_named("i8_row") == "int8");
  CHECK(preset_named("f16") == "fp16");
  CHECK(preset_named("mm8") == "mm8");
}

TEST_CASE("Words that people use for keys are answered with the key", "[recipe]") {
  CHECK_THAT(refused("stages:\n  - low_rank: {k: 4}"), Contains("did you mean 'low_rank.factor'?"));
  CHECK_THAT(refused("stages:\n  - low_rank: {rank: 64}"), Contains("low_rank.factor"));
  CHECK_THAT(refused("stages:\n  - quantize: {embedding: f16}"), Contains("quantize.overrides"));
  CHECK_THAT(refused("stages:\n  - train: {learning_rate: 1e-4}"), Contains("train.lr"));
  CHECK_THAT(refused("extends: int8"), Contains("preset"));
}

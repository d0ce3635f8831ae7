#include "compressor/recipe/keys.h"

#include <nlohmann/json.hpp>

#include "compressor/options/other_names.h"
#include "compressor/recipe/recipe.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kDraft = "http://json-schema.org/draft-07/schema#";

Json object_with(Json properties) {
  return {
      {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

Json schema_of(const KeyGroup& group) {
  Json properties = Json::object();
  for (const KeyGroup::Key& key : group.keys) {
    properties[key.name] = Json::parse(key.schema);
    properties[key.name]["description"] =
        key.help + (key.value.empty() ? "" : fmt::format(" (default {})", key.value));
  }
  return object_with(std::move(properties));
}

Json preset_schema() {
  Json names = Json::array();
  for (const Preset& preset : presets()) {
    names.push_back(preset.name);
    for (const char* other : other_names(preset.name)) {
      names.push_back(other);
    }
  }
  return {{"enum", names}, {"description", "the preset to start from"}};
}

// "- quantize", "- quantize: {...}" or, after a preset, "- quantize: off", which YAML 1.1 calls
// false.
Json stages_schema(const std::vector<KeyGroup>& groups) {
  Json names = Json::array();
  Json entries = Json::object();
  for (const KeyGroup& group : groups) {
    if (group.is_stage) {
      names.push_back(group.owner);
      entries[group.owner] = {
          {"anyOf", {schema_of(group), {{"type", "null"}}, {{"enum", {"off", false}}}}}};
    }
  }
  Json entry = object_with(std::move(entries));
  entry["minProperties"] = 1;
  entry["maxProperties"] = 1;
  return {{"type", {"array", "null"}}, {"items", {{"anyOf", {{{"enum", names}}, entry}}}}};
}

// What recipes and sweeps have in common.
Json shared_properties(const std::vector<KeyGroup>& groups) {
  Json properties = {{"name", {{"type", {"string", "number"}}}},
                     {"seed", {{"type", "integer"}, {"minimum", 0}}},
                     {"preset", preset_schema()}};
  for (const KeyGroup& group : groups) {
    if (!group.is_stage) {
      properties[group.owner] = schema_of(group);
    }
  }
  properties["stages"] = stages_schema(groups);
  return properties;
}

std::string finished(const char* title, Json properties) {
  Json schema = {{"$schema", kDraft}, {"title", title}};
  schema.update(object_with(std::move(properties)));
  return schema.dump(2) + "\n";
}

}  // namespace

KeyGroup keys_of(const std::string& owner, const Settings& settings) {
  KeyGroup group{owner, {}, false};
  for (const Setting& setting : settings.list()) {
    group.keys.push_back({std::string(setting.key), setting.value_text(), setting.expected,
                          std::string(setting.help), setting.schema});
  }
  return group;
}

std::vector<KeyGroup> recipe_keys() {
  CalibrationOptions calibration;
  Budget budget;
  std::vector<KeyGroup> groups = {keys_of("calibration", calibration_settings(calibration)),
                                  keys_of("budget", budget_settings(budget))};
  for (const StageTraits& traits : stage_list()) {
    const std::unique_ptr<Stage> stage = traits.make();
    groups.push_back(keys_of(traits.name, stage->settings()));
    groups.back().is_stage = true;
  }
  return groups;
}

std::string recipe_schema() {
  return finished("Recipe of rwkv-press", shared_properties(recipe_keys()));
}

std::string sweep_schema(const KeyGroup& evaluation) {
  Json properties = shared_properties(recipe_keys());
  properties.erase("budget");
  properties["recipe"] = {{"type", "string"}, {"description", "a recipe file"}};
  properties["axes"] = {{"type", {"object", "null"}},
                        {"additionalProperties", {{"type", "array"}, {"minItems", 1}}}};
  properties["ablation"] = {{"type", "boolean"}};
  properties["references"] = {{"type", "boolean"}};
  properties["evaluate"] = schema_of(evaluation);
  return finished("Sweep of rwkv-press", std::move(properties));
}

}  // namespace rwkv::press

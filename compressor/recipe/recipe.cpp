#include "compressor/recipe/recipe.h"

#include <algorithm>
#include <array>
#include <list>

#include "compressor/options/other_names.h"
#include "compressor/options/settings.h"
#include "compressor/options/yaml.h"
#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

constexpr const char* kCalibration = "calibration";
constexpr const char* kBudget = "budget";
constexpr const char* kPreset = "preset";
constexpr const char* kOff = "off";
constexpr std::array<std::string_view, 6> kTopKeys = {"name",       "seed",  kPreset,
                                                      kCalibration, kBudget, "stages"};

const StageTraits* find_stage(std::string_view name) {
  for (const StageTraits& stage : stage_list()) {
    if (name == stage.name) {
      return &stage;
    }
  }
  return nullptr;
}

// The order of stages, for messages.
std::string stage_order() {
  std::string order;
  std::string last;
  for (const StageTraits& stage : stage_list()) {
    order += fmt::format("{}{}", order.empty() ? "" : ", ", stage.name);
    if (stage.last_with != nullptr) {
      last += fmt::format(", {} with '{}'", stage.name, stage.last_with);
    }
  }
  return order + last;
}

std::vector<std::string_view> stage_names() {
  std::vector<std::string_view> names;
  for (const StageTraits& stage : stage_list()) {
    names.push_back(stage.name);
  }
  return names;
}

// One entry of the list: "- quantize", "- quantize: {...}", or "- quantize: off" after a preset.
struct StageEntry {
  std::string name;
  YAML::Node options;
  int line = 0;
  bool is_off() const { return options.IsScalar() && options.Scalar() == kOff; }
  // Where it stands among all stages.
  size_t place() const {
    const StageTraits* const stage = find_stage(name);
    const bool is_last =
        stage->last_with != nullptr && options.IsMap() && options[stage->last_with].IsDefined();
    return is_last ? stage_list().size() : static_cast<size_t>(stage - stage_list().data());
  }
};

Result<StageEntry> read_stage_entry(const YAML::Node& node) {
  StageEntry entry;
  entry.line = node.Mark().line + 1;
  if (node.IsScalar()) {
    entry.name = node.Scalar();
    entry.options = YAML::Node(YAML::NodeType::Map);
  } else if (node.IsMap() && node.size() == 1 && node.begin()->first.IsScalar()) {
    entry.name = node.begin()->first.Scalar();
    entry.options = node.begin()->second;
    if (entry.options.IsNull()) {
      entry.options = YAML::Node(YAML::NodeType::Map);
    }
  } else {
    return usage_error("expected a stage as '- NAME' or '- NAME: {{key: value}}'{}", at_line(node));
  }
  if (!find_stage(entry.name)) {
    return usage_error("unknown stage '{}'{}{}", entry.name, at_line(node),
                       suggestion(entry.name, stage_names()));
  }
  if (!entry.options.IsMap() && !entry.is_off()) {
    return usage_error("stage '{}': expected a map of settings{}", entry.name, at_line(node));
  }
  return entry;
}

Result<std::vector<StageEntry>> read_stages(const YAML::Node& node) {
  std::vector<StageEntry> entries;
  if (!node || node.IsNull()) {
    return entries;
  }
  if (!node.IsSequence()) {
    return usage_error("stages: expected a list{}", at_line(node));
  }
  for (const YAML::Node& item : node) {
    RWKV_ASSIGN(StageEntry entry, read_stage_entry(item));
    for (const StageEntry& earlier : entries) {
      if (earlier.name == entry.name && earlier.place() == entry.place()) {
        return usage_error("stage '{}' occurs twice (lines {} and {}); remove one", entry.name,
                           earlier.line, entry.line);
      }
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

// Stages stand in the order of the list; a free one may also stand earlier.
Status check_order(const std::vector<StageEntry>& entries) {
  const StageEntry* earlier = nullptr;
  for (const StageEntry& entry : entries) {
    const bool is_free = find_stage(entry.name)->is_free;
    if (earlier != nullptr && entry.place() < earlier->place()) {
      return usage_error("stage '{}' comes after '{}'; stages must stand in the order {}",
                         entry.name, earlier->name, stage_order());
    }
    earlier = is_free ? earlier : &entry;
  }
  return {};
}

// --set stage.key=value, the value in YAML; `calibration` and `budget` count as stages here.
Status apply_override(const std::string& text, YAML::Node& calibration, YAML::Node& budget,
                      std::vector<StageEntry>& entries) {
  const size_t equals = text.find('=');
  const size_t dot = text.find('.');
  if (equals == std::string::npos || dot == std::string::npos || dot > equals) {
    return usage_error("--set: expected stage.key=value, found '{}'", text);
  }
  const std::string stage = text.substr(0, dot);
  const std::string key = text.substr(dot + 1, equals - dot - 1);
  auto loaded = load_yaml(text.substr(equals + 1));
  RWKV_TRY(loaded.status().in("--set " + text));
  const YAML::Node value = loaded.take();
  if (stage == kCalibration) {
    calibration[key] = value;
    return {};
  }
  if (stage == kBudget && budget.IsMap()) {
    budget[key] = value;
    return {};
  }
  bool is_found = false;
  for (StageEntry& entry : entries) {
    if (entry.name == stage) {
      entry.options[key] = value;
      is_found = true;
    }
  }
  if (is_found) {
    return {};
  }
  std::vector<std::string_view> names;
  for (const StageEntry& entry : entries) {
    names.push_back(entry.name);
  }
  return usage_error("--set {}: the recipe has no stage '{}'{}", text, stage,
                     suggestion(stage, names));
}

// A key by its text, which is how maps find it; a key that is no text is refused by its reader.
std::string key_of(const YAML::Node& key) {
  return key.IsScalar() ? key.Scalar() : "";
}

// What a recipe starts from: nothing, or a preset.
struct Base {
  YAML::Node calibration;
  std::vector<StageEntry> entries;
};

Result<Base> read_base(const YAML::Node& root) {
  Base base;
  if (!root[kPreset]) {
    return base;
  }
  const std::string name = root[kPreset].IsScalar() ? root[kPreset].Scalar() : "";
  RWKV_ASSIGN(const Preset* preset, find_preset(name));
  const YAML::Node yaml = YAML::Load(preset->yaml);
  base.calibration = yaml[kCalibration] ? YAML::Clone(yaml[kCalibration]) : YAML::Node();
  RWKV_ASSIGN(base.entries, read_stages(yaml["stages"]));
  return base;
}

// The stages of a preset with the changes of a recipe: settings of stages that it has, stages that
// it does not have, at their place in the order, and stages that are off.
Result<std::vector<StageEntry>> change_stages(const std::vector<StageEntry>& of_preset,
                                              const std::vector<StageEntry>& changes) {
  // A vector would move entries by assignment, and assigning to a YAML::Node changes what all its
  // copies refer to: settings would end up with other stages.
  std::list<StageEntry> base(of_preset.begin(), of_preset.end());
  for (const StageEntry& change : changes) {
    const auto same = std::find_if(base.begin(), base.end(), [&](const StageEntry& entry) {
      return entry.name == change.name && entry.place() == change.place();
    });
    if (change.is_off()) {
      if (same == base.end()) {
        return usage_error(
            "stage '{}' is off, but there is no such stage to leave out; remove the line",
            change.name);
      }
      base.erase(same);
    } else if (same == base.end()) {
      const auto next = std::find_if(base.begin(), base.end(), [&](const StageEntry& entry) {
        return entry.place() > change.place();
      });
      base.insert(next, change);
    } else {
      for (const auto& pair : change.options) {
        same->options[key_of(pair.first)] = pair.second;
      }
    }
  }
  return std::vector<StageEntry>(base.begin(), base.end());
}

// The maps of a preset and of a recipe as one; a value that is not a map is left to its reader.
YAML::Node merged(YAML::Node base, const YAML::Node& changes) {
  if (!changes) {
    return base;
  }
  if (!base.IsMap() || !changes.IsMap()) {
    return YAML::Clone(changes);
  }
  for (const auto& pair : changes) {
    base[key_of(pair.first)] = pair.second;
  }
  return base;
}

Status read_top(const YAML::Node& root, const std::string& origin, Recipe& recipe) {
  RWKV_TRY(check_keys(root, "", kTopKeys));
  recipe.name = root["name"] && root["name"].IsScalar() ? root["name"].Scalar() : origin;
  if (root["seed"]) {
    RWKV_TRY(setting::count("seed", recipe.seed, 0, UINT64_MAX, "").read(root["seed"], "seed"));
  }
  return {};
}

Result<Recipe> build_recipe(const std::string& text, const std::string& origin,
                            std::span<const std::string> overrides) {
  Recipe recipe;
  recipe.origin = origin;
  RWKV_ASSIGN(const YAML::Node root, load_yaml(text));
  RWKV_TRY(read_top(root, origin, recipe));
  RWKV_ASSIGN(Base base, read_base(root));
  RWKV_ASSIGN(const std::vector<StageEntry> changes, read_stages(root["stages"]));
  RWKV_TRY(check_order(changes));
  RWKV_ASSIGN(std::vector<StageEntry> entries, change_stages(base.entries, changes));
  YAML::Node calibration = merged(base.calibration, root[kCalibration]);
  YAML::Node budget = root[kBudget] ? YAML::Clone(root[kBudget]) : YAML::Node();
  for (const std::string& override : overrides) {
    RWKV_TRY(apply_override(override, calibration, budget, entries));
  }
  RWKV_TRY(check_order(entries));
  if (!budget.IsNull()) {
    RWKV_ASSIGN(recipe.budget, read_budget(budget));
    if (!entries.empty()) {
      return usage_error(
          "expected either 'budget' or 'stages', found both; remove one of them (with a budget, "
          "the plan chooses the stages)");
    }
  }
  if (calibration && !calibration.IsNull()) {
    RWKV_TRY(calibration_settings(recipe.calibration).read(calibration));
  }
  recipe.calibration.seed = recipe.seed;
  for (const StageEntry& entry : entries) {
    std::unique_ptr<Stage> stage = find_stage(entry.name)->make();
    RWKV_TRY(stage->configure(entry.options));
    recipe.stages.push_back(std::move(stage));
  }
  return recipe;
}

}  // namespace

Settings calibration_settings(CalibrationOptions& options) {
  using namespace setting;
  constexpr uint64_t kMostSamples = 1 << 24;
  constexpr uint64_t kMostTokens = 1 << 16;
  return {kCalibration,
          {
              count("samples", options.samples, 1, kMostSamples, "stretches of text"),
              count("length", options.length, 2, kMostTokens, "tokens of each"),
          }};
}

bool needs_calibration(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(),
                     [](const auto& stage) { return stage->needs_calibration(); });
}

bool may_use_calibration(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(),
                     [](const auto& stage) { return stage->may_use_calibration(); });
}

bool has_parts(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(),
                     [](const auto& stage) { return stage->has_parts(); });
}

bool trains(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(),
                     [](const auto& stage) { return stage->trains(); });
}

std::string Recipe::effective_yaml() const {
  YAML::Emitter out;
  out << YAML::BeginMap;
  out << YAML::Key << "name" << YAML::Value << YAML::DoubleQuoted << name;
  out << YAML::Key << "seed" << YAML::Value << seed;
  if (budget) {
    out << YAML::Key << kBudget << YAML::Value;
    emit_budget(out, *budget);
  }
  if (budget || may_use_calibration(*this)) {
    out << YAML::Key << kCalibration << YAML::Value;
    CalibrationOptions options = calibration;
    calibration_settings(options).emit(out, /*flow=*/true);
  }
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  for (const std::unique_ptr<Stage>& stage : stages) {
    out << YAML::BeginMap << YAML::Key << stage->name() << YAML::Value;
    stage->settings().emit(out);
    out << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

Result<Recipe> parse_recipe(const std::string& text, const std::string& origin,
                            std::span<const std::string> overrides) {
  try {
    auto recipe = build_recipe(text, origin, overrides);
    return recipe.ok() ? std::move(recipe) : Result<Recipe>(recipe.status().in(origin));
  } catch (const YAML::Exception& error) {
    return usage_error("{}: not valid YAML at line {}, column {}: {}; correct it there", origin,
                       error.mark.line + 1, error.mark.column + 1, error.msg);
  }
}

Result<const Preset*> find_preset(const std::string& name) {
  std::vector<std::string_view> names;
  for (const Preset& preset : presets()) {
    if (is_same_format(name, preset.name)) {
      return &preset;
    }
    names.push_back(preset.name);
  }
  return usage_error("unknown preset '{}'{}", name, suggestion(name, names));
}

}  // namespace rwkv::press

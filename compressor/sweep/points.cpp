#include "compressor/sweep/points.h"

#include <algorithm>
#include <set>

#include "compressor/recipe/commands.h"
#include "compressor/recipe/recipe.h"
#include "compressor/sweep/device.h"
#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

constexpr const char* kOn = "on";
constexpr const char* kOff = "off";
constexpr const char* kCalibration = "calibration";
constexpr const char* kQuantize = "quantize";
constexpr const char* kPlainPreset = "fp16";
// What every sweep is compared with, besides the dense model.
constexpr const char* kUsualPreset = "int8";

std::string stage_of(const std::string& axis) {
  return axis.substr(0, axis.find('.'));
}

std::string stage_yaml(Stage& stage) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << stage.name() << YAML::Value;
  stage.settings().emit(out);
  out << YAML::EndMap;
  return out.c_str();
}

SweepPoint point_from(const Recipe& recipe) {
  SweepPoint point;
  point.recipe = recipe.effective_yaml();
  point.commands = commands_of(recipe);
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    if (stage->trains()) {
      point.trained = point.stages.size();
    }
    point.stages.push_back(stage_yaml(*stage));
  }
  if (needs_calibration(recipe)) {
    point.learns_from = fmt::format("{} x {}, seed {}", recipe.calibration.samples,
                                    recipe.calibration.length, recipe.seed);
  }
  return point;
}

bool is_of_device(const SweepAxis& axis) {
  return !axis.is_stage() && stage_of(axis.name) == kSweepDevice;
}

// Refuses axes whose stage is not in the recipe, and unknown settings.
Status check_axis(const SweepAxis& axis, const Recipe& recipe) {
  std::vector<std::string_view> stages;
  const std::string name = stage_of(axis.name);
  Stage* found = nullptr;
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    stages.emplace_back(stage->name());
    found = name == stage->name() ? stage.get() : found;
  }
  if (axis.is_stage() && name == kSweepDevice) {
    HeldAs device;
    return usage_error("axes.{}: expected one of its settings: device.{}", name,
                       fmt::join(device_settings(device).keys(), ", device."));
  }
  if (axis.is_stage()) {
    for (const std::string& value : axis.values) {
      if (found && value != kOn && value != kOff) {
        return usage_error("axes.{}: expected '{}' or '{}' for a stage, found '{}'", axis.name, kOn,
                           kOff, value);
      }
    }
  }
  if ((name == kCalibration && !axis.is_stage()) || is_of_device(axis)) {
    return {};  // its keys are checked with its values
  }
  if (!found) {
    stages.emplace_back(kCalibration);
    stages.emplace_back(kSweepDevice);
    return usage_error("axes.{}: the recipe has no stage '{}'{}", axis.name, name,
                       suggestion(name, stages));
  }
  const std::vector<std::string_view> keys = found->settings().keys();
  const std::string key = axis.is_stage() ? "" : axis.name.substr(name.size() + 1);
  if (!axis.is_stage() && std::find(keys.begin(), keys.end(), key) == keys.end()) {
    return usage_error("axes.{}: stage '{}' has no setting '{}'{}", axis.name, name, key,
                       hint(name, key, keys));
  }
  return {};
}

class Planner {
 public:
  explicit Planner(const SweepSettings& settings) : settings_(settings) {}

  Result<SweepPlan> plan() {
    auto base = parse({});
    RWKV_TRY(base.status());
    for (const SweepAxis& axis : settings_.axes) {
      RWKV_TRY(check_axis(axis, base.value()).in(settings_.origin));
    }
    RWKV_TRY(cross_product());
    if (settings_.ablation) {
      RWKV_TRY(ablation(base.value()));
    }
    if (settings_.references) {
      RWKV_TRY(references());
    }
    return std::move(plan_);
  }

 private:
  Result<Recipe> parse(const std::vector<std::string>& overrides) const {
    auto recipe = parse_recipe(settings_.recipe, settings_.recipe_origin, overrides);
    const bool is_inline = settings_.recipe_origin == settings_.origin;  // named already
    return recipe.ok() || is_inline ? std::move(recipe)
                                    : Result<Recipe>(recipe.status().in(settings_.origin));
  }

  // The index of the point; an equal point that exists already is reused.
  size_t add(SweepPoint point) {
    for (size_t i = 0; i < plan_.points.size(); ++i) {
      if (plan_.points[i].recipe == point.recipe && plan_.points[i].device == point.device) {
        return i;
      }
    }
    plan_.points.push_back(std::move(point));
    return plan_.points.size() - 1;
  }

  Status cross_product() {
    size_t n = 1;
    for (const SweepAxis& axis : settings_.axes) {
      n *= axis.values.size();
      if (n > kMaxSweepPoints) {
        return usage_error("{}: the axes have more than {} points together; remove some values",
                           settings_.origin, kMaxSweepPoints);
      }
    }
    for (size_t i = 0; i < n; ++i) {
      RWKV_TRY(add_product(i));
    }
    return {};
  }

  // "factor" of low_rank.factor, unless another axis that varies ends alike.
  std::string short_name(const SweepAxis& axis) const {
    const std::string key = axis.name.substr(axis.name.find('.') + 1);
    const auto is_like = [&](const SweepAxis& other) {
      return other.values.size() > 1 && other.name.substr(other.name.find('.') + 1) == key;
    };
    return std::count_if(settings_.axes.begin(), settings_.axes.end(), is_like) > 1 ? axis.name
                                                                                    : key;
  }

  // What the axes device.KEY say.
  Result<std::string> device_of(
      const std::vector<std::pair<std::string, std::string>>& chosen) const {
    YAML::Node given(YAML::NodeType::Map);
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (is_of_device(settings_.axes[i])) {
        given[chosen[i].first.substr(chosen[i].first.find('.') + 1)] = chosen[i].second;
      }
    }
    HeldAs device;
    RWKV_TRY(device_settings(device).read(given).in(settings_.origin + ": axes"));
    const EvaluationFiles& files = settings_.evaluation.files;
    if (device.weight_bytes > 0 && !(files.clozes.empty() && files.choices.empty())) {
      return usage_error(
          "{}: axes.device.weight_bytes: narrower widths are measured on texts alone; leave out "
          "the questions",
          settings_.origin);
    }
    return device_yaml(device);
  }

  Status add_product(size_t index) {
    std::vector<std::pair<std::string, std::string>> chosen(settings_.axes.size());
    for (size_t i = settings_.axes.size(); i-- > 0;) {
      const SweepAxis& axis = settings_.axes[i];
      chosen[i] = {axis.name, axis.values[index % axis.values.size()]};
      index /= axis.values.size();
    }
    std::set<std::string> dropped;
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (settings_.axes[i].is_stage() && chosen[i].second == kOff) {
        dropped.insert(chosen[i].first);
      }
    }
    std::vector<std::string> overrides;
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (!settings_.axes[i].is_stage() && !is_of_device(settings_.axes[i]) &&
          !dropped.contains(stage_of(chosen[i].first))) {
        overrides.push_back(fmt::format("{}={}", chosen[i].first, chosen[i].second));
      }
    }
    auto recipe = parse(overrides);
    RWKV_TRY(recipe.status());
    std::erase_if(recipe.value().stages,
                  [&](const auto& stage) { return dropped.contains(stage->name()); });
    SweepPoint point = point_from(recipe.value());
    RWKV_ASSIGN(point.device, device_of(chosen));
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (settings_.axes[i].values.size() > 1) {
        point.label += fmt::format("{}{}={}", point.label.empty() ? "" : " ",
                                   short_name(settings_.axes[i]), chosen[i].second);
      }
    }
    if (point.label.empty()) {
      point.label = recipe.value().name;
    }
    point.settings = std::move(chosen);
    add(std::move(point));
    return {};
  }

  // The base recipe with the stages of a preset instead of its own.
  Result<SweepPoint> with_preset(const char* name) const {
    RWKV_ASSIGN(Recipe recipe, parse({}));
    RWKV_ASSIGN(const Preset* preset, find_preset(name));
    RWKV_ASSIGN(Recipe plain, parse_recipe(preset->yaml, preset->name, {}));
    recipe.stages = std::move(plain.stages);
    return point_from(recipe);
  }

  Status references() {
    RWKV_ASSIGN(SweepPoint dense, with_preset(kPlainPreset));
    dense.label = fmt::format("dense, {}", kPlainPreset);
    plan_.baseline = add(std::move(dense));
    RWKV_ASSIGN(SweepPoint usual, with_preset(kUsualPreset));
    usual.label = kUsualPreset;
    add(std::move(usual));
    return {};
  }

  // The base recipe with only the stages in `kept`; values in half precision if `quantize` is not
  // among them.
  Result<SweepPoint> with_stages(const std::set<std::string>& kept) const {
    RWKV_ASSIGN(Recipe recipe, parse({}));
    std::erase_if(recipe.stages, [&](const auto& stage) { return !kept.contains(stage->name()); });
    if (!kept.contains(kQuantize)) {
      RWKV_ASSIGN(const Preset* preset, find_preset(kPlainPreset));
      RWKV_ASSIGN(Recipe plain, parse_recipe(preset->yaml, preset->name, {}));
      for (std::unique_ptr<Stage>& stage : plain.stages) {
        recipe.stages.push_back(std::move(stage));
      }
    }
    return point_from(recipe);
  }

  Status add_bar(const std::string& label, const std::set<std::string>& kept) {
    RWKV_ASSIGN(SweepPoint point, with_stages(kept));
    point.label = label;
    plan_.ablation.push_back({label, add(std::move(point))});
    return {};
  }

  Status ablation(const Recipe& base) {
    RWKV_TRY(add_bar("none", {}));
    plan_.baseline = plan_.ablation.back().point;
    std::set<std::string> before;
    std::string names;
    for (const std::unique_ptr<Stage>& stage : base.stages) {
      const std::string name = stage->name();
      std::set<std::string> kept = stage->recovers() ? before : std::set<std::string>();
      kept.insert(name);
      before.insert(name);
      names += (names.empty() ? "" : " + ") + name;
      RWKV_TRY(add_bar(stage->recovers() && before.size() > 1 ? names : name + " alone", kept));
    }
    return add_bar("all together", before);
  }

  const SweepSettings& settings_;
  SweepPlan plan_;
};

}  // namespace

Result<SweepPoint> point_from_recipe(const std::string& yaml, const std::string& origin) {
  RWKV_ASSIGN(const Recipe recipe, parse_recipe(yaml, origin, {}));
  return point_from(recipe);
}

Result<SweepPlan> plan_sweep(const SweepSettings& settings) {
  return Planner(settings).plan();
}

}  // namespace rwkv::press

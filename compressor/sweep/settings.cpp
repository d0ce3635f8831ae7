#include "compressor/sweep/settings.h"

#include <array>
#include <filesystem>

#include "compressor/evaluate/footprint.h"
#include "compressor/options/settings.h"
#include "compressor/options/yaml.h"
#include "compressor/recipe/recipe_file.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxValues = 1000;
constexpr std::array<std::string_view, 10> kTopKeys = {
    "name",        "preset", "recipe",   "stages",     "seed",
    "calibration", "axes",   "ablation", "references", "evaluate"};
// Of an inline recipe.
constexpr std::array<const char*, 4> kRecipeKeys = {"preset", "seed", "calibration", "stages"};

std::string beside(const std::string& sweep_file, const std::string& name) {
  const fs::path path(name);
  return path.is_absolute() ? name : (fs::path(sweep_file).parent_path() / path).string();
}

// A value as one line of YAML, as --set takes it.
Result<std::string> value_text(const YAML::Node& value, const std::string& axis) {
  if (value.IsScalar()) {
    return value.Scalar();
  }
  if (!value.IsDefined() || value.IsNull()) {
    return usage_error("axes.{} has an empty value{}", axis, at_line(value));
  }
  YAML::Emitter out;
  out.SetMapFormat(YAML::Flow);
  out.SetSeqFormat(YAML::Flow);
  out << value;
  return std::string(out.c_str());
}

Status read_axes(const YAML::Node& node, std::vector<SweepAxis>& axes) {
  if (!node || node.IsNull()) {
    return {};
  }
  if (!node.IsMap()) {
    return usage_error("'axes': expected a map of stage.key: [values]{}", at_line(node));
  }
  for (const auto& pair : node) {
    SweepAxis axis;
    axis.name = pair.first.IsScalar() ? pair.first.Scalar() : "";
    if (!pair.second.IsSequence() || pair.second.size() == 0 || pair.second.size() > kMaxValues) {
      return usage_error("axes.{}: expected a list of 1 to {} values{}", axis.name, kMaxValues,
                         at_line(pair.first));
    }
    for (const YAML::Node& value : pair.second) {
      RWKV_ASSIGN(std::string text, value_text(value, axis.name));
      axis.values.push_back(std::move(text));
    }
    axes.push_back(std::move(axis));
  }
  return {};
}

Status read_evaluation(const YAML::Node& node, const std::string& path,
                       SweepEvaluation& evaluation) {
  if (!node || node.IsNull()) {
    return {};
  }
  RWKV_TRY(evaluation_settings(evaluation).read(node));
  EvaluationFiles& files = evaluation.files;
  for (std::vector<std::string>* named : {&files.texts, &files.clozes, &files.choices}) {
    for (std::string& file : *named) {
      file = beside(path, file);
    }
  }
  return {};
}

// From a preset, a file, or the sweep itself.
Status read_recipe(const YAML::Node& root, const std::string& path, SweepSettings& settings) {
  const bool is_own = root["stages"] || root["seed"] || root["calibration"];
  if (root["recipe"] && (root["preset"] || is_own)) {
    return usage_error(
        "'recipe' names a file that has its own preset, stages, seed and calibration; vary them "
        "with axes, such as calibration.samples: [32]");
  }
  if (!root["recipe"] && !root["preset"] && !root["stages"]) {
    return usage_error("expected one of 'preset', 'recipe' and 'stages', found none");
  }
  if (root["preset"] && !is_own) {
    const std::string name = root["preset"].IsScalar() ? root["preset"].Scalar() : "";
    RWKV_ASSIGN(const Preset* preset, find_preset(name));
    settings.recipe = preset->yaml;
    settings.recipe_origin = fmt::format("preset {}", name);
    return {};
  }
  if (root["recipe"]) {
    const std::string name = root["recipe"].IsScalar() ? root["recipe"].Scalar() : "";
    if (name.empty()) {
      return usage_error("'recipe': expected the name of a file{}", at_line(root["recipe"]));
    }
    RWKV_ASSIGN(RecipeText text, read_recipe_file(beside(path, name)));
    settings.recipe_origin = std::move(text.origin);
    settings.recipe = std::move(text.yaml);
    return {};
  }
  YAML::Node recipe;
  recipe["name"] = settings.name;
  for (const char* key : kRecipeKeys) {
    if (root[key]) {
      recipe[key] = root[key];
    }
  }
  settings.recipe = YAML::Dump(recipe);
  settings.recipe_origin = path;
  return {};
}

Result<SweepSettings> read_sweep(const std::string& text, const std::string& path) {
  RWKV_ASSIGN(const YAML::Node root, load_yaml(text));
  RWKV_TRY(check_keys(root, "", kTopKeys));
  SweepSettings settings;
  settings.origin = path;
  settings.name = root["name"] && root["name"].IsScalar() ? root["name"].Scalar()
                                                          : fs::path(path).stem().string();
  RWKV_TRY(read_recipe(root, path, settings));
  RWKV_TRY(read_axes(root["axes"], settings.axes));
  if (root["ablation"]) {
    RWKV_TRY(setting::flag("ablation", settings.ablation, "").read(root["ablation"], "ablation"));
  }
  if (root["references"]) {
    RWKV_TRY(setting::flag("references", settings.references, "")
                 .read(root["references"], "references"));
  }
  RWKV_TRY(read_evaluation(root["evaluate"], path, settings.evaluation));
  return settings;
}

}  // namespace

Settings evaluation_settings(SweepEvaluation& evaluation) {
  using namespace setting;
  EvaluationFiles& files = evaluation.files;
  return {
      "evaluate",
      {
          texts("text", files.texts, "texts to score: perplexity, bits per byte"),
          texts("cloze", files.clozes, "texts whose last word the model must predict"),
          texts("choices", files.choices, "requests of multiple choice"),
          count("max_docs", files.max_docs, 0, UINT64_MAX,
                "documents of each file of questions, drawn at random; 0: all"),
          count("max_tokens", evaluation.max_tokens, 0, UINT64_MAX, "tokens of each text; 0: all"),
          flag("reference", evaluation.reference,
               "compare with the dense model in f32 over the texts"),
          flag("speed", evaluation.speed, "measure tokens per second"),
          choice("memory", evaluation.memory, footprint_modes(), "mode of the runtime"),
      }};
}

Result<SweepSettings> parse_sweep(const std::string& text, const std::string& path) {
  try {
    auto settings = read_sweep(text, path);
    return settings.ok() ? std::move(settings) : Result<SweepSettings>(settings.status().in(path));
  } catch (const YAML::Exception& error) {
    return usage_error("{}: not valid YAML at line {}, column {}: {}; correct it there", path,
                       error.mark.line + 1, error.mark.column + 1, error.msg);
  }
}

}  // namespace rwkv::press

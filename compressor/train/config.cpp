#include "compressor/train/config.h"

#include <algorithm>
#include <array>
#include <vector>

#include "compressor/options/option_values.h"
#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

constexpr std::array<std::string_view, 4> kTopKeys = {"name", "seed", "model", "train"};
constexpr std::array<std::string_view, 10> kModelKeys = {
    "version", "n_layer", "n_embd",    "n_vocab",    "head_size",
    "dim_ffn", "rank",    "embedding", "tied_start", "mimetic"};

template <typename Keys>
Status check_keys(const YAML::Node& map, const std::string& prefix, const Keys& known) {
  if (!map.IsMap()) {
    const std::string what = prefix.substr(0, prefix.size() - 1);
    return prefix.empty() ? usage_error("a configuration wants a map")
                          : usage_error("'{}' wants a map", what);
  }
  for (const auto& pair : map) {
    const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "";
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return usage_error("unknown key '{}{}'{}", prefix, key, suggestion(key, known));
    }
  }
  return {};
}

Status read_model(const YAML::Node& node, NewModelOptions& model, InitialOptions& initial) {
  RWKV_TRY(check_keys(node, "model.", kModelKeys));
  const OptionValues values(node, "model");
  constexpr uint64_t kMost = 1 << 20;
  if (!node["version"] || !node["version"].IsScalar()) {
    return usage_error("model.version is missing: v4, v5.0, v5.1, v5.2, v6, v7, x058 or x059");
  }
  model.arch = node["version"].Scalar();
  RWKV_TRY(values.count("n_layer", 1, kMost, model.n_layer));
  RWKV_TRY(values.count("n_embd", 1, kMost, model.n_embd));
  RWKV_TRY(values.count("n_vocab", 2, kMost, model.n_vocab));
  RWKV_TRY(values.count("head_size", 1, kMost, model.head_size));
  RWKV_TRY(values.count("dim_ffn", 1, kMost, model.dim_ffn));
  RWKV_TRY(values.real("embedding", 1e-9, 100, initial.embedding));
  RWKV_TRY(values.flag("tied_start", initial.tied_start));
  RWKV_TRY(values.flag("mimetic", initial.mimetic));
  return values.count("rank", 1, kMost, model.rank);
}

Status apply_override(const std::string& text, YAML::Node& root) {
  constexpr std::string_view kPrefix = "train.";
  const size_t equals = text.find('=');
  if (!text.starts_with(kPrefix) || equals == std::string::npos || equals == kPrefix.size()) {
    return usage_error("--set wants train.key=value, found '{}'", text);
  }
  root["train"][text.substr(kPrefix.size(), equals - kPrefix.size())] =
      YAML::Load(text.substr(equals + 1));
  return {};
}

Result<TrainConfig> build(const std::string& text, const std::string& origin,
                          std::span<const std::string> overrides) {
  TrainConfig config;
  YAML::Node root = YAML::Load(text);
  if (root.IsNull()) {
    root = YAML::Node(YAML::NodeType::Map);
  }
  RWKV_TRY(check_keys(root, "", kTopKeys));
  if (!root["train"] || root["train"].IsNull()) {
    root["train"] = YAML::Node(YAML::NodeType::Map);
  }
  for (const std::string& override : overrides) {
    RWKV_TRY(apply_override(override, root));
  }
  config.name = root["name"] && root["name"].IsScalar() ? root["name"].Scalar() : origin;
  RWKV_TRY(OptionValues(root, "configuration").count("seed", 0, UINT64_MAX, config.seed));
  config.initial.seed = config.seed;
  if (root["model"]) {
    config.model.emplace();
    RWKV_TRY(read_model(root["model"], *config.model, config.initial));
  }
  std::vector<std::string_view> keys;
  for (const OptionSpec& spec : train_option_specs()) {
    keys.emplace_back(spec.key);
  }
  const YAML::Node settings = root["train"];
  RWKV_TRY(check_keys(settings, "train.", keys));
  RWKV_TRY(read_train_options(settings, config.train));
  return config;
}

}  // namespace

Result<TrainConfig> parse_train_config(const std::string& text, const std::string& origin,
                                       std::span<const std::string> overrides) {
  try {
    auto config = build(text, origin, overrides);
    return config.ok() ? std::move(config) : Result<TrainConfig>(config.status().in(origin));
  } catch (const YAML::Exception& error) {
    return usage_error("{}: not valid YAML at line {}, column {}: {}", origin, error.mark.line + 1,
                       error.mark.column + 1, error.msg);
  }
}

}  // namespace rwkv::press

#include "compressor/train/config.h"

#include <array>

#include "compressor/options/settings.h"
#include "compressor/options/yaml.h"

namespace rwkv::press {
namespace {

constexpr std::array<std::string_view, 4> kTopKeys = {"name", "seed", "model", "train"};

Settings model_settings(NewModelOptions& model, InitialOptions& initial) {
  using namespace setting;
  constexpr uint64_t kMost = 1 << 20;
  return {
      "model",
      {
          text("version", model.arch, "v4, v5.0, v5.1, v5.2, v6, v7, x058 or x059"),
          count("n_layer", model.n_layer, 1, kMost, "blocks"),
          count("n_embd", model.n_embd, 1, kMost, "channels"),
          count("n_vocab", model.n_vocab, 2, kMost, "tokens of the vocabulary"),
          count("head_size", model.head_size, 1, kMost, "channels of a head"),
          count("dim_ffn", model.dim_ffn, 1, kMost, "neurons of channel_mix"),
          real("embedding", initial.embedding, 1e-9, 100, "largest initial value of the embedding"),
          flag("tied_start", initial.tied_start, "the head starts as the embedding's rows"),
          flag("mimetic", initial.mimetic, "blocks start by copying what followed a token"),
          count("rank", model.rank, 1, kMost, "of factor pairs (x058, x059)"),
      }};
}

Status read_model(const YAML::Node& node, NewModelOptions& model, InitialOptions& initial) {
  RWKV_TRY(model_settings(model, initial).read(node));
  return node["version"] ? Status()
                         : usage_error(
                               "model.version is missing: v4, v5.0, v5.1, v5.2, v6, v7, x058 or "
                               "x059");
}

Status apply_override(const std::string& text, YAML::Node& root) {
  constexpr std::string_view kPrefix = "train.";
  const size_t equals = text.find('=');
  if (!text.starts_with(kPrefix) || equals == std::string::npos || equals == kPrefix.size()) {
    return usage_error("--set: expected train.key=value, found '{}'", text);
  }
  auto value = load_yaml(text.substr(equals + 1));
  RWKV_TRY(value.status().in("--set " + text));
  root["train"][text.substr(kPrefix.size(), equals - kPrefix.size())] = value.take();
  return {};
}

Result<TrainConfig> build(const std::string& text, const std::string& origin,
                          std::span<const std::string> overrides) {
  TrainConfig config;
  RWKV_ASSIGN(YAML::Node root, load_yaml(text));
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
  if (root["seed"]) {
    RWKV_TRY(setting::count("seed", config.seed, 0, UINT64_MAX, "").read(root["seed"], "seed"));
  }
  config.initial.seed = config.seed;
  if (root["model"]) {
    config.model.emplace();
    RWKV_TRY(read_model(root["model"], *config.model, config.initial));
  }
  RWKV_TRY(read_train_options(root["train"], config.train));
  return config;
}

}  // namespace

Result<TrainConfig> parse_train_config(const std::string& text, const std::string& origin,
                                       std::span<const std::string> overrides) {
  try {
    auto config = build(text, origin, overrides);
    return config.ok() ? std::move(config) : Result<TrainConfig>(config.status().in(origin));
  } catch (const YAML::Exception& error) {
    return usage_error("{}: not valid YAML at line {}, column {}: {}; correct it there", origin,
                       error.mark.line + 1, error.mark.column + 1, error.msg);
  }
}

}  // namespace rwkv::press

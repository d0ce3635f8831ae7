#include "compressor/checkpoint/adapter_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "compressor/checkpoint/adapter.h"
#include "compressor/checkpoint/json_file.h"
#include "compressor/checkpoint/open.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxRank = 65536;
constexpr double kMaxAlpha = 1e6;
constexpr const char* kConfigName = "adapter_config.json";
constexpr std::string_view kModelName = "adapter_model";
constexpr std::array kModelFiles = {"adapter_model.safetensors", "adapter_model.bin",
                                    "adapter_model.pth", "adapter_model.pt"};
constexpr const char* kMergeThere =
    "merge it with PEFT (merge_and_unload) and convert the model that this gives";

// A switch or a value that is off: false, null, "none", or empty.
bool is_off(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() || *found == false || *found == "none" ||
         ((found->is_object() || found->is_array()) && found->empty());
}

// What was done to the base before the training, so that the base as published does not fit.
bool changes_base(const Json& json) {
  const auto found = json.find("init_lora_weights");
  if (found == json.end() || !found->is_string()) {
    return false;
  }
  const std::string how = found->get<std::string>();
  return how.starts_with("pissa") || how == "olora" || how == "corda" || how == "loftq";
}

Status refuse_other_kinds(const Json& json) {
  const auto type = json.find("peft_type");
  if (type == json.end() || !type->is_string() || type->get<std::string>() != "LORA") {
    return bad_input("peft_type: expected LORA, found {}; {}",
                     type == json.end() ? "none" : type->dump().substr(0, 40), kMergeThere);
  }
  // What changes a LoRA in ways that are not known here.
  for (const char* key :
       {"use_dora", "alpha_pattern", "fan_in_fan_out", "lora_bias", "layer_replication",
        "use_qalora", "trainable_token_indices", "target_parameters"}) {
    if (!is_off(json, key)) {
      return bad_input("{}: expected none, found {}; {}", key, json[key].dump().substr(0, 40),
                       kMergeThere);
    }
  }
  if (changes_base(json)) {
    return bad_input(
        "init_lora_weights: {} changed the model before the training, expected a plain LoRA; let "
        "PEFT save it as one (path_initial_model_for_weight_conversion), or {}",
        json["init_lora_weights"].dump().substr(0, 40), kMergeThere);
  }
  return {};
}

Status read_values(const Json& json, AdapterConfig& config) {
  RWKV_TRY(refuse_other_kinds(json));
  const Json none;
  const auto at = [&](const char* key) -> const Json& {
    const auto found = json.find(key);
    return found == json.end() ? none : *found;
  };
  const Json& rank = at("r");
  if (!rank.is_number_unsigned() || rank.get<uint64_t>() == 0 || rank.get<uint64_t>() > kMaxRank) {
    return bad_input("r: expected a rank from 1 to {}, found {}; fetch the file again", kMaxRank,
                     rank.dump().substr(0, 40));
  }
  config.rank = rank.get<uint64_t>();
  const Json& alpha = at("lora_alpha");
  if (!alpha.is_number() || !(std::fabs(alpha.get<double>()) <= kMaxAlpha)) {
    return bad_input("lora_alpha: expected a number, found {}; fetch the file again",
                     alpha.dump().substr(0, 40));
  }
  config.alpha = alpha.get<double>();
  config.has_other_ranks = !is_off(json, "rank_pattern");
  config.by_root = !is_off(json, "use_rslora");
  // A string is a pattern of names, such as "all-linear".
  if (const Json& targets = at("target_modules"); targets.is_array()) {
    for (const Json& target : targets) {
      if (!target.is_string()) {
        return bad_input("target_modules: expected names, found {}; fetch the file again",
                         target.dump().substr(0, 40));
      }
      config.targets.push_back(target.get<std::string>());
    }
  }
  return {};
}

// "blocks.0.att.key" for the target "key", "att.key" or the whole.
bool is_module(std::string_view module, std::string_view target) {
  return module == target || (module.ends_with(target) && module.size() > target.size() &&
                              module[module.size() - target.size() - 1] == '.');
}

// The tensors against the configuration: files of two adapters look alike.
Status check_fits(const TensorSource& source, const AdapterConfig& config) {
  for (const TensorInfo& info : source.tensors()) {
    const auto name = parse_adapter_name(info.name);
    if (!name) {
      continue;
    }
    const uint64_t rank = info.shape.size() != 2             ? 0
                          : name->part == AdapterPart::LoraA ? info.shape[0]
                                                             : info.shape[1];
    if (!config.has_other_ranks && rank != config.rank) {
      return bad_input(
          "{}: r is {}, but tensor '{}' is {}; it belongs to another adapter, fetch both again",
          config.path, config.rank, info.name, shape_to_string(info.shape));
    }
    const std::string_view module(name->target.data(),
                                  name->target.size() - std::string_view(".weight").size());
    if (!config.targets.empty() &&
        std::none_of(config.targets.begin(), config.targets.end(),
                     [&](const std::string& target) { return is_module(module, target); })) {
      return bad_input(
          "{}: target_modules are {}, and tensor '{}' is of none; it belongs to another adapter, "
          "fetch both again",
          config.path, fmt::join(config.targets, ", "), info.name);
    }
  }
  return {};
}

Result<std::string> file_of_folder(const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : kModelFiles) {
    if (fs::is_regular_file(folder / name, ignored)) {
      return (folder / name).string();
    }
  }
  if (fs::is_regular_file(folder / kConfigName, ignored)) {
    return bad_input(
        "{}: expected an adapter with its tensors ({}), found its configuration alone; fetch the "
        "tensors too",
        folder.string(), kModelFiles.front());
  }
  return folder.string();
}

}  // namespace

double AdapterConfig::scale(uint64_t rank_of_pair) const {
  const auto n = static_cast<double>(rank_of_pair);
  return alpha / (by_root ? std::sqrt(n) : n);
}

Result<AdapterConfig> read_adapter_config(const std::string& path) {
  AdapterConfig config;
  config.path = path;
  RWKV_ASSIGN(const Json json, read_json_file(path, kMaxConfigBytes));
  RWKV_TRY(read_values(json, config).in(path));
  return config;
}

Result<OpenedAdapter> open_adapter(const std::string& path) {
  std::error_code ignored;
  std::string file = path;
  if (fs::is_directory(path, ignored)) {
    RWKV_ASSIGN(file, file_of_folder(path));
  }
  RWKV_ASSIGN(Checkpoint checkpoint, open_checkpoint(file));
  OpenedAdapter adapter{std::move(checkpoint.source), std::nullopt};
  const fs::path config = fs::path(file).parent_path() / kConfigName;
  if (fs::path(file).filename().string().starts_with(kModelName) &&
      fs::is_regular_file(config, ignored)) {
    RWKV_ASSIGN(adapter.config, read_adapter_config(config.string()));
    RWKV_TRY(check_fits(*adapter.source, *adapter.config));
  }
  return adapter;
}

}  // namespace rwkv::press

#include "formats/arch/model_config.h"

#include "formats/arch/versions.h"
#include "formats/base/damaged.h"

namespace rwkv {
namespace {

constexpr const char* kLowRankFormNames[] = {"none", "linear", "relu_squared"};

// The sizes in metadata, listed once for writing and reading.
struct SizeKey {
  const char* key;
  uint64_t ModelConfig::*field;
  bool is_optional =
      false;  ///< newer than the first files: not written, and 0, where it is missing
};
constexpr SizeKey kSizes[] = {
    {"rwkv.n_layer", &ModelConfig::n_layer},
    {"rwkv.n_embd", &ModelConfig::n_embd},
    {"rwkv.n_vocab", &ModelConfig::n_vocab},
    {"rwkv.dim_att", &ModelConfig::dim_att},
    {"rwkv.dim_ffn", &ModelConfig::dim_ffn},
    {"rwkv.n_head", &ModelConfig::n_head},
    {"rwkv.head_size", &ModelConfig::head_size},
    {"rwkv.mix_lora", &ModelConfig::mix_lora},
    {"rwkv.decay_lora", &ModelConfig::decay_lora},
    {"rwkv.iclr_lora", &ModelConfig::iclr_lora},
    {"rwkv.value_lora", &ModelConfig::value_lora},
    {"rwkv.gate_lora", &ModelConfig::gate_lora},
    {"rwkv.deep_embed", &ModelConfig::deep_embed, true},
    {"rwkv.n_cluster", &ModelConfig::n_cluster},
    {"rwkv.predictor_hidden", &ModelConfig::predictor_hidden},
};

Status head_from_metadata(const GgufMetadata& metadata, ModelConfig& config) {
  RWKV_ASSIGN(const double p_min, metadata.get_f64("rwkv.head.p_min"));
  RWKV_ASSIGN(config.head_k_min, metadata.get_u64("rwkv.head.k_min"));
  RWKV_ASSIGN(config.head_k_max, metadata.get_u64("rwkv.head.k_max"));
  RWKV_ASSIGN(config.first_cluster_always, metadata.get_bool("rwkv.head.first_always"));
  if (!(p_min > 0 && p_min <= 1) || config.head_k_min < 1 ||
      config.head_k_max < config.head_k_min) {
    return damaged(
        "rwkv.head has p_min {}, k_min {}, k_max {}, expected 0 < p_min <= 1 and 1 <= k_min <= "
        "k_max",
        p_min, config.head_k_min, config.head_k_max);
  }
  config.head_p_min = static_cast<float>(p_min);
  return {};
}

}  // namespace

const char* low_rank_form_name(LowRankForm form) {
  return kLowRankFormNames[static_cast<size_t>(form)];
}

uint64_t ModelConfig::wkv_floats() const {
  return version == Version::V4 ? 3 * dim_att : n_head * head_size * head_size;
}

uint64_t ModelConfig::state_floats_per_layer() const {
  return 2 * n_embd + wkv_floats();
}

const VersionTraits& version_traits(Version version) {
  return kVersions[static_cast<size_t>(version)];
}

const VersionTraits* find_version(std::string_view name) {
  for (const VersionTraits& traits : kVersions) {
    if (name == traits.name) {
      return &traits;
    }
  }
  return nullptr;
}

std::string version_label(const ModelConfig& config) {
  if (config.version == Version::V5_2 && config.low_rank == LowRankForm::Linear) {
    return "x058";
  }
  if (config.version == Version::V5_2 && config.low_rank == LowRankForm::ReluSquared) {
    return "x059";
  }
  return version_traits(config.version).name;
}

std::string describe(const ModelConfig& config) {
  std::string text = fmt::format("{}, {} layers x {}, ffn {}", version_label(config),
                                 config.n_layer, config.n_embd, config.dim_ffn);
  if (config.n_head > 0) {
    text += fmt::format(", {} heads of {}", config.n_head, config.head_size);
  }
  return text + fmt::format(", vocabulary {}", config.n_vocab);
}

void config_to_metadata(const ModelConfig& config, GgufMetadata& metadata) {
  metadata.set("rwkv.version", GgufValue::string(version_traits(config.version).name));
  metadata.set("rwkv.low_rank", GgufValue::string(low_rank_form_name(config.low_rank)));
  for (const SizeKey& size : kSizes) {
    if (config.*size.field != 0 || !size.is_optional) {
      metadata.set(size.key, GgufValue::u32(static_cast<uint32_t>(config.*size.field)));
    }
  }
  metadata.set("rwkv.group_norm_eps", GgufValue::f32(config.group_norm_eps));
  metadata.set("rwkv.ln0_folded", GgufValue::boolean(config.ln0_folded));
  metadata.set("rwkv.head.p_min", GgufValue::f32(config.head_p_min));
  metadata.set("rwkv.head.k_min", GgufValue::u32(static_cast<uint32_t>(config.head_k_min)));
  metadata.set("rwkv.head.k_max", GgufValue::u32(static_cast<uint32_t>(config.head_k_max)));
  metadata.set("rwkv.head.first_always", GgufValue::boolean(config.first_cluster_always));
}

Result<ModelConfig> config_from_metadata(const GgufMetadata& metadata) {
  ModelConfig config;
  RWKV_ASSIGN(const std::string version, metadata.get_string("rwkv.version"));
  const VersionTraits* traits = find_version(version);
  if (!traits) {
    return bad_input(
        "rwkv.version is '{}', which this build does not know; use rwkv-edge and rwkv-press of the "
        "version that packed the file, or newer",
        version);
  }
  config.version = traits->version;
  RWKV_ASSIGN(const std::string form, metadata.get_string("rwkv.low_rank"));
  size_t index = 0;
  while (index < std::size(kLowRankFormNames) && form != kLowRankFormNames[index]) {
    ++index;
  }
  if (index == std::size(kLowRankFormNames)) {
    return damaged("rwkv.low_rank is '{}', expected none, linear or relu_squared", form);
  }
  config.low_rank = static_cast<LowRankForm>(index);
  for (const SizeKey& size : kSizes) {
    if (metadata.find(size.key) || !size.is_optional) {
      RWKV_ASSIGN(config.*size.field, metadata.get_u64(size.key));
    }
  }
  RWKV_ASSIGN(const double eps, metadata.get_f64("rwkv.group_norm_eps"));
  if (!(eps > 0 && eps < 1)) {
    return damaged("rwkv.group_norm_eps is {}, expected a value between 0 and 1", eps);
  }
  config.group_norm_eps = static_cast<float>(eps);
  RWKV_ASSIGN(config.ln0_folded, metadata.get_bool("rwkv.ln0_folded"));
  RWKV_TRY(head_from_metadata(metadata, config));
  return config;
}

}  // namespace rwkv

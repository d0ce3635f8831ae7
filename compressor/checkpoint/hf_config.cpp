#include "compressor/checkpoint/hf_config.h"

#include <cmath>

#include "compressor/checkpoint/json_file.h"
#include "formats/arch/versions.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxSize = uint64_t{1} << 24;
constexpr double kNormEps = 1e-5;  // of every layer norm of RWKV

// The first of `keys` that is there and not null.
const Json* find_any(const Json& json, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (const auto found = json.find(key); found != json.end() && !found->is_null()) {
      return &*found;
    }
  }
  return nullptr;
}

Status read_size(const Json& json, std::initializer_list<const char*> keys,
                 std::optional<uint64_t>& size) {
  const Json* value = find_any(json, keys);
  if (!value) {
    return {};
  }
  if (!value->is_number_unsigned() || value->get<uint64_t>() == 0 ||
      value->get<uint64_t>() > kMaxSize) {
    return bad_input(
        "{}: expected a size from 1 to {}, found {}; fetch the file again, or move it away",
        *keys.begin(), kMaxSize, value->dump().substr(0, 40));
  }
  size = value->get<uint64_t>();
  return {};
}

Status read_number(const Json& json, std::initializer_list<const char*> keys, double& number) {
  const Json* value = find_any(json, keys);
  if (!value) {
    return {};
  }
  if (!value->is_number() || !(value->get<double>() > 0) || !std::isfinite(value->get<double>())) {
    return bad_input(
        "{}: expected a number above 0, found {}; fetch the file again, or move it away",
        *keys.begin(), value->dump().substr(0, 40));
  }
  number = value->get<double>();
  return {};
}

Status read_values(const Json& json, HfConfig& config) {
  if (const Json* type = find_any(json, {"model_type"}); type && type->is_string()) {
    config.model_type = type->get<std::string>();
  }
  RWKV_TRY(read_size(json, {"hidden_size"}, config.hidden_size));
  RWKV_TRY(read_size(json, {"num_hidden_layers"}, config.n_layer));
  RWKV_TRY(read_size(json, {"vocab_size"}, config.n_vocab));
  RWKV_TRY(read_size(json, {"intermediate_size"}, config.dim_ffn));
  RWKV_TRY(read_size(json, {"head_dim", "head_size"}, config.head_size));
  RWKV_TRY(read_number(json, {"layer_norm_epsilon", "norm_eps"}, config.norm_eps));
  RWKV_TRY(read_number(json, {"head_size_divisor"}, config.head_size_divisor));
  if (const Json* tied = find_any(json, {"tie_word_embeddings"})) {
    config.is_tied = tied->is_boolean() && tied->get<bool>();
  }
  config.eps_by_head_size = config.model_type.starts_with("rwkv7");
  if (find_any(json, {"attn"})) {
    return bad_input(
        "has layers of attention (attn), a hybrid, expected RWKV in every layer; run it with "
        "flash-linear-attention");
  }
  if (std::fabs(config.norm_eps / kNormEps - 1) > 1e-3) {
    return bad_input(
        "the epsilon of its norms is {}, expected {}, that of every RWKV; run it with the program "
        "that it was made for",
        config.norm_eps, kNormEps);
  }
  return {};
}

}  // namespace

Result<HfConfig> read_hf_config(const std::string& path) {
  HfConfig config;
  config.path = path;
  RWKV_ASSIGN(const Json json, read_json_file(path, kMaxConfigBytes));
  RWKV_TRY(read_values(json, config).in(path));
  return config;
}

Status apply_hf_config(const HfConfig& config, ModelConfig& model) {
  struct Size {
    const char* key;
    std::optional<uint64_t> said;
    uint64_t found;
  };
  const Size sizes[] = {{"hidden_size", config.hidden_size, model.n_embd},
                        {"num_hidden_layers", config.n_layer, model.n_layer},
                        {"vocab_size", config.n_vocab, model.n_vocab},
                        {"intermediate_size", config.dim_ffn, model.dim_ffn},
                        {"head_dim", config.head_size, model.head_size}};
  for (const Size& size : sizes) {
    // v4 has no heads, whatever a configuration says.
    if (size.said && size.found != 0 && *size.said != size.found) {
      return bad_input(
          "{}: {} is {}, but the tensors have {}; it belongs to another checkpoint, fetch both "
          "again",
          config.path, size.key, *size.said, size.found);
    }
  }
  if (model.version == Version::V4) {
    return {};
  }
  const double factor = config.eps_by_head_size
                            ? static_cast<double>(model.head_size)
                            : config.head_size_divisor * config.head_size_divisor;
  model.group_norm_eps = static_cast<float>(kNormEps * factor);
  return {};
}

}  // namespace rwkv::press

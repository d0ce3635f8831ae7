#include "compressor/stages/plan_state.h"

#include <algorithm>
#include <array>

#include "formats/base/little_endian.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::json;

constexpr std::array<const char*, 4> kParts = {"dense", "factor_a", "factor_b", "diagonal"};
constexpr int kRoles = static_cast<int>(Role::Ignored) + 1;
constexpr int64_t kMostBlocks = 1 << 20;

Json metadata_to_json(const GgufMetadata& metadata) {
  Json json = Json::object();
  for (const auto& [key, value] : metadata.entries()) {
    std::visit([&, &name = key](const auto& held) { json[name] = held; }, value.value);
  }
  return json;
}

GgufMetadata metadata_from(const Json& json) {
  GgufMetadata metadata;
  for (const auto& [key, value] : json.items()) {
    if (value.is_string()) {
      metadata.set(key, GgufValue::string(value.get<std::string>()));
    } else if (value.is_boolean()) {
      metadata.set(key, GgufValue::boolean(value.get<bool>()));
    } else if (value.is_number_float()) {
      metadata.set(key, GgufValue::f32(value.get<float>()));
    } else if (value.is_number_unsigned()) {
      metadata.set(key, GgufValue::u64(value.get<uint64_t>()));
    }
  }
  return metadata;
}

Json tensor_to_json(const PlannedTensor& tensor) {
  const TensorBinding& binding = tensor.binding;
  return {{"name", binding.name},
          {"role", role_traits(binding.role).name},
          {"part", kParts[static_cast<size_t>(binding.part)]},
          {"transposed", binding.layout == Layout::Transposed},
          {"block", binding.block},
          {"shape", binding.shape},
          {"codec", codec_traits(tensor.codec).name}};
}

Result<PlannedTensor> tensor_from(const Json& json) {
  PlannedTensor tensor;
  TensorBinding& binding = tensor.binding;
  binding.name = json.at("name").get<std::string>();
  const std::string role = json.at("role").get<std::string>();
  int index = 0;
  while (index < kRoles && role != role_traits(static_cast<Role>(index)).name) {
    ++index;
  }
  const std::string part = json.at("part").get<std::string>();
  const auto found_part = std::find(kParts.begin(), kParts.end(), part);
  const std::string codec = json.at("codec").get<std::string>();
  const auto all = codec_list();
  const auto found_codec = std::find_if(
      all.begin(), all.end(), [&](const CodecTraits& each) { return codec == each.name; });
  binding.block = json.at("block").get<int64_t>();
  binding.shape = json.at("shape").get<std::vector<uint64_t>>();
  uint64_t n = 1;
  bool fits = binding.shape.size() <= 3 && binding.block >= -1 && binding.block < kMostBlocks;
  for (const uint64_t size : binding.shape) {
    fits = fits && checked_mul(n, size, n);
  }
  if (index == kRoles || found_part == kParts.end() || found_codec == all.end() || !fits) {
    return bad_input(
        "tensor '{}': expected a role, a part, a codec and a shape, found '{}', '{}', "
        "'{}', {}",
        binding.name, role, part, codec, shape_to_string(binding.shape));
  }
  binding.role = static_cast<Role>(index);
  binding.part = static_cast<Part>(found_part - kParts.begin());
  binding.layout = json.at("transposed").get<bool>() ? Layout::Transposed : Layout::AsIs;
  tensor.codec = found_codec->codec;
  return tensor;
}

Json shards_to_json(const PlannedShards& shards) {
  Json matrices = Json::array();
  for (const PlannedShards::Matrix& matrix : shards.matrices) {
    std::vector<std::string> codecs;
    for (const Codec codec : matrix.codecs) {
      codecs.emplace_back(codec_traits(codec).name);
    }
    matrices.push_back({{"name", matrix.name},
                        {"piece_rows", matrix.piece_rows},
                        {"codecs", codecs},
                        {"losses", matrix.losses},
                        {"xxh64", matrix.xxh64}});
  }
  return {{"widths", shards.widths}, {"matrices", matrices}};
}

// Of the tensors of `plan`.
Result<PlannedShards> shards_from(const Json& json, const PackPlan& plan) {
  PlannedShards shards;
  shards.widths = json.at("widths").get<std::vector<std::string>>();
  for (const Json& each : json.at("matrices")) {
    PlannedShards::Matrix matrix{each.at("name").get<std::string>(),
                                 each.at("piece_rows").get<uint64_t>()};
    const PlannedTensor* const tensor = plan.find(matrix.name);
    bool fits = tensor != nullptr && matrix.piece_rows > 0;
    for (const auto& name : each.at("codecs").get<std::vector<std::string>>()) {
      const CodecTraits* const codec = find_codec(name);
      fits = fits && codec != nullptr;
      matrix.codecs.push_back(codec != nullptr ? codec->codec : Codec::F32);
    }
    matrix.losses = each.at("losses").get<std::vector<double>>();
    matrix.xxh64 = each.at("xxh64").get<std::vector<uint64_t>>();
    const uint64_t n =
        fits ? (tensor->binding.packed_rows() + matrix.piece_rows - 1) / matrix.piece_rows : 0;
    if (!fits || matrix.codecs.size() != shards.widths.size() ||
        matrix.losses.size() != n * shards.widths.size() ||
        matrix.xxh64.size() != n * (shards.widths.size() + 1)) {
      return bad_input("tensor '{}': its narrower copies are not of the plan", matrix.name);
    }
    shards.matrices.push_back(std::move(matrix));
  }
  return shards;
}

}  // namespace

nlohmann::json plan_to_json(const PackPlan& plan) {
  GgufMetadata config;
  config_to_metadata(plan.config, config);
  Json tensors = Json::array();
  for (const PlannedTensor& tensor : plan.tensors) {
    tensors.push_back(tensor_to_json(tensor));
  }
  return {{"config", metadata_to_json(config)},
          {"tensors", tensors},
          {"fp16_bytes", plan.dense_fp16_bytes},
          {"shares", {{"neurons", plan.shares.neurons}, {"clusters", plan.shares.clusters}}},
          {"shards", shards_to_json(plan.shards)}};
}

Result<PackPlan> plan_from_json(const nlohmann::json& json) {
  PackPlan plan;
  RWKV_ASSIGN(plan.config, config_from_metadata(metadata_from(json.at("config"))));
  for (const Json& each : json.at("tensors")) {
    RWKV_ASSIGN(PlannedTensor tensor, tensor_from(each));
    plan.tensors.push_back(std::move(tensor));
  }
  plan.dense_fp16_bytes = json.at("fp16_bytes").get<uint64_t>();
  plan.shares.neurons = json.at("shares").at("neurons").get<double>();
  plan.shares.clusters = json.at("shares").at("clusters").get<double>();
  RWKV_ASSIGN(plan.shards, shards_from(json.at("shards"), plan));
  return plan;
}

}  // namespace rwkv::press

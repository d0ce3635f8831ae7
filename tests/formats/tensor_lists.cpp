#include "tests/formats/tensor_lists.h"

#include <algorithm>

namespace rwkv::test {
namespace {

uint64_t number_of(Dim dim, Version version, const ModelSizes& sizes) {
  switch (dim) {
    case Dim::Clusters:
    case Dim::PredictorHidden:
    case Dim::Two:
    case Dim::None:
      return 0;
    case Dim::Vocab:
      return sizes.n_vocab;
    case Dim::Embd:
      return sizes.n_embd;
    case Dim::Att:
      return expected_config(version, sizes).dim_att;
    case Dim::Ffn:
      return sizes.dim_ffn;
    case Dim::Head:
      return sizes.n_head;
    case Dim::HeadSize:
      return sizes.head_size;
    case Dim::MixLora:
      return sizes.mix_lora;
    case Dim::MixLora5:
      return 5 * sizes.mix_lora;
    case Dim::Five:
      return 5;
    case Dim::DecayLora:
      return sizes.decay_lora;
    case Dim::IclrLora:
      return sizes.iclr_lora;
    case Dim::ValueLora:
      return sizes.value_lora;
    case Dim::GateLora:
      return sizes.gate_lora;
    case Dim::DeepEmbed:
      return sizes.deep_embed;
    case Dim::DeepEmbed2:
      return sizes.deep_embed * sizes.deep_embed;
  }
  return 0;
}

bool is_in_block(const TensorSpec& spec, uint64_t block, const ListOptions& options) {
  switch (spec.where) {
    case Where::Model:
      return false;
    case Where::FirstBlock:
      return block == 0;
    case Where::EveryBlock:
      return true;
    case Where::LaterBlocks:
      return block > 0 || options.first_block_values;
  }
  return false;
}

}  // namespace

ModelConfig expected_config(Version version, const ModelSizes& sizes) {
  ModelConfig config;
  config.version = version;
  config.n_layer = sizes.n_layer;
  config.n_embd = sizes.n_embd;
  config.n_vocab = sizes.n_vocab;
  config.dim_ffn = sizes.dim_ffn;
  config.dim_att = sizes.dim_att();
  config.n_head = sizes.n_head;
  config.head_size = sizes.head_size;
  switch (version) {
    case Version::V4:
      config.n_head = 0;
      config.head_size = 0;
      break;
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      break;
    case Version::V6:
      config.mix_lora = sizes.mix_lora;
      config.decay_lora = sizes.decay_lora;
      break;
    case Version::V7:
    case Version::V7a:
      config.decay_lora = sizes.decay_lora;
      config.iclr_lora = sizes.iclr_lora;
      config.value_lora = sizes.n_layer > 1 ? sizes.value_lora : 0;
      config.gate_lora = sizes.gate_lora;
      config.deep_embed = version == Version::V7a ? sizes.deep_embed : 0;
      break;
  }
  return config;
}

std::vector<TensorInfo> tensors_of(Version version, const ModelSizes& sizes,
                                   const ListOptions& options) {
  std::vector<TensorInfo> tensors;
  const std::span<const TensorSpec> table = version_traits(version).tensors();
  const auto add = [&](const TensorSpec& spec, const std::string& prefix) {
    std::vector<uint64_t> shape;
    for (size_t i = 0; i < spec.n_dims(); ++i) {
      shape.push_back(number_of(spec.shape[i], version, sizes));
    }
    if (options.shapes == ShapesAre::AsPacked && spec.layout == Layout::Transposed) {
      std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
    }
    tensors.push_back({prefix + spec.name, DType::F32, std::move(shape)});
  };
  const auto add_where = [&](const std::string& prefix, auto wanted) {
    for (size_t i = 0; i < table.size(); ++i) {
      if ((table[i].versions & only(version)) == 0 || table[i].presence == Presence::Optional ||
          !wanted(table[i])) {
        continue;
      }
      const bool choice = table[i].presence == Presence::Alternative;
      add(table[choice && options.time_first ? i + 1 : i], prefix);
      i += choice ? 1 : 0;
    }
  };
  add_where("", [](const TensorSpec& spec) { return spec.where == Where::Model; });
  for (uint64_t block = 0; block < sizes.n_layer; ++block) {
    add_where(fmt::format("blocks.{}.", block),
              [&](const TensorSpec& spec) { return is_in_block(spec, block, options); });
  }
  return tensors;
}

TensorInfo* find_tensor(std::vector<TensorInfo>& tensors, std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const TensorInfo& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

void replace_by_pair(std::vector<TensorInfo>& tensors, std::string_view stem, uint64_t rank,
                     Diagonal diagonal) {
  TensorInfo* dense = find_tensor(tensors, std::string(stem) + ".weight");
  if (!dense || dense->shape.size() != 2) {
    return;
  }
  const std::vector<uint64_t> shape = dense->shape;
  *dense = {std::string(stem) + "1.weight", dense->dtype, {rank, shape[1]}};
  tensors.push_back({std::string(stem) + "2.weight", DType::F32, {shape[0], rank}});
  if (diagonal == Diagonal::Yes) {
    tensors.push_back({std::string(stem) + "_diag", DType::F32, {shape[0]}});
  }
}

std::vector<TensorInfo> rwkv_lite_tensors(const ModelSizes& sizes, LowRankForm form) {
  std::vector<TensorInfo> tensors = tensors_of(Version::V5_2, sizes);
  const auto diagonal = form == LowRankForm::ReluSquared ? Diagonal::Yes : Diagonal::No;
  for (uint64_t block = 0; block < sizes.n_layer; ++block) {
    for (const char* name :
         {"att.receptance", "att.key", "att.value", "att.gate", "ffn.receptance"}) {
      replace_by_pair(tensors, fmt::format("blocks.{}.{}", block, name), 9, diagonal);
    }
  }
  return tensors;
}

}  // namespace rwkv::test

#include "compressor/llama_cpp/layout.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "compressor/llama_cpp/block_types.h"

namespace rwkv::press {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr uint32_t kQuantizationVersion = 2;  // of ggml's blocks
// RWKV has no limit; llama.cpp's converter writes this one.
constexpr uint32_t kContextLength = 1 << 20;

// llama.cpp multiplies these in 32 bits.
constexpr std::array<std::string_view, 4> kKeptWhole = {"time_mix_w1.weight", "time_mix_w2.weight",
                                                        "time_mix_decay_w1.weight",
                                                        "time_mix_decay_w2.weight"};

// "att.key" of "blocks.3.att.key.weight".
std::string stem_of(const std::string& name) {
  std::string stem = name.substr(name.find('.', name.find('.') + 1) + 1);
  if (stem.ends_with(kWeight)) {
    stem.resize(stem.size() - kWeight.size());
  }
  return stem;
}

class Layouter {
 public:
  Layouter(const Identified& model, const LlamaCppTypes& types) : model_(model), types_(types) {
    for (const TensorBinding& binding : model.tensors) {
      bindings_[binding.name] = &binding;
    }
  }

  OutputTensor lay_out(const LlamaCppTensor& from) {
    OutputTensor tensor;
    tensor.from = from;
    const std::string& name = from.sources.front();
    const TensorBinding& binding = binding_of(name);
    tensor.block = binding.block;
    tensor.shape = shape_of(from, name);
    choose_type(binding.role, tensor);
    return tensor;
  }

  std::map<std::string, size_t> n_narrower;  ///< matrices by "q4_k as iq4_nl"

 private:
  // Of a pair, its first factor.
  const TensorBinding& binding_of(const std::string& name) const {
    const auto found = bindings_.find(name);
    return *(found != bindings_.end() ? found->second : bindings_.at(factor_of(name, '1')));
  }
  static std::string factor_of(const std::string& name, char which) {
    return name.substr(0, name.size() - kWeight.size()) + which + std::string(kWeight);
  }

  std::vector<uint64_t> shape_of(const LlamaCppTensor& from, const std::string& name) const {
    std::vector<uint64_t> shape;
    if (bindings_.contains(name)) {
      shape = bindings_.at(name)->shape;
    } else {
      shape = {bindings_.at(factor_of(name, '2'))->shape[0],
               bindings_.at(factor_of(name, '1'))->shape[1]};
    }
    const uint64_t n =
        std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
    switch (from.form) {
      case LlamaCppForm::AsIs:
        break;
      case LlamaCppForm::Flat:
        shape = {n};
        break;
      case LlamaCppForm::Transposed:
        std::swap(shape[shape.size() - 2], shape.back());
        break;
      case LlamaCppForm::Fused:
        shape = {from.sources.size(), 1, 1, n};
        break;
    }
    return shape;
  }

  void choose_type(Role role, OutputTensor& tensor) {
    const std::string& name = tensor.from.sources.front();
    DType wanted = DType::F32;
    switch (role) {
      case Role::Embedding:
        wanted = types_.embedding;
        break;
      case Role::Head:
        wanted = types_.head;
        tensor.product = "head";
        break;
      case Role::Projection:
      case Role::FfnKey:
      case Role::FfnValue:
        wanted = types_.products;
        tensor.product = stem_of(name);
        break;
      case Role::Lora:
        wanted = is_kept_whole(tensor.from.name) || types_.products == DType::F32 ? DType::F32
                                                                                  : DType::F16;
        break;
      case Role::Vector:
      case Role::Predictor:
      case Role::SignBits:
      case Role::ClusterHead:
      case Role::TokenRows:
      case Role::InitialState:
      case Role::Ignored:
        break;
    }
    tensor.type = fitting_type(wanted, tensor.shape.back());
    if (tensor.type != wanted) {
      ++n_narrower[fmt::format("{} as {}", block_type(wanted).name, block_type(tensor.type).name)];
    }
  }

  static bool is_kept_whole(const std::string& name) {
    return std::any_of(kKeptWhole.begin(), kKeptWhole.end(),
                       [&](std::string_view end) { return name.ends_with(end); });
  }

  const Identified& model_;
  LlamaCppTypes types_;
  std::map<std::string, const TensorBinding*> bindings_;
};

}  // namespace

const char* llama_cpp_architecture(Version version) {
  switch (version) {
    case Version::V6:
      return "rwkv6";
    case Version::V7:
      return "rwkv7";
    case Version::V4:
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
    case Version::V7a:
      break;
  }
  return nullptr;
}

std::vector<OutputTensor> llama_cpp_layout(const Identified& model, const LlamaCppTypes& types,
                                           std::vector<std::string>& notes) {
  Layouter layouter(model, types);
  std::vector<OutputTensor> tensors;
  for (const LlamaCppTensor& from :
       llama_cpp_tensors(llama_cpp_architecture(model.config.version), model.config.n_layer)) {
    tensors.push_back(layouter.lay_out(from));
  }
  for (const auto& [what, n] : layouter.n_narrower) {
    notes.push_back(fmt::format("{} matrices as {}: their rows are no whole number of blocks of {}",
                                n, what.substr(what.find(" as ") + 4),
                                what.substr(0, what.find(" "))));
  }
  return tensors;
}

GgufMetadata llama_cpp_settings(const ModelConfig& config, const LlamaCppTypes& types,
                                const std::string& model_name) {
  const std::string architecture = llama_cpp_architecture(config.version);
  GgufMetadata metadata;
  const auto number = [&](const std::string& key, uint64_t value) {
    metadata.set(architecture + "." + key, GgufValue::u32(static_cast<uint32_t>(value)));
  };
  metadata.set("general.architecture", GgufValue::string(architecture));
  metadata.set("general.type", GgufValue::string("model"));
  metadata.set("general.name", GgufValue::string(model_name));
  number("context_length", kContextLength);
  number("embedding_length", config.n_embd);
  number("block_count", config.n_layer);
  number("feed_forward_length", config.dim_ffn);
  number("vocab_size", config.n_vocab);
  number("wkv.head_size", config.head_size);
  number("attention.head_count", 0);
  constexpr float kEpsilon = 1e-5f;
  metadata.set(architecture + ".attention.layer_norm_epsilon", GgufValue::f32(kEpsilon));
  if (config.version == Version::V6) {
    number("rescale_every_n_layers", 0);
    number("time_mix_extra_dim", config.mix_lora);
    number("time_decay_extra_dim", config.decay_lora);
  } else {
    number("attention.decay_lora_rank", config.decay_lora);
    number("attention.iclr_lora_rank", config.iclr_lora);
    number("attention.value_residual_mix_lora_rank", config.value_lora);
    number("attention.gate_lora_rank", config.gate_lora);
  }
  metadata.set("general.file_type", GgufValue::u32(block_type(types.products).file_type));
  if (traits(types.products).block > 1 || traits(types.head).block > 1) {
    metadata.set("general.quantization_version", GgufValue::u32(kQuantizationVersion));
  }
  return metadata;
}

}  // namespace rwkv::press

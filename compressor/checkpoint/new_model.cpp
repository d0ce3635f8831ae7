#include "compressor/checkpoint/new_model.h"

#include <algorithm>

#include "formats/arch/versions.h"
#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

// x058 and x059 are v5.2 with factor pairs.
struct Arch {
  Version version;
  LowRankForm form;
};
Result<Arch> find_arch(const std::string& name) {
  if (name == "x058") {
    return Arch{Version::V5_2, LowRankForm::Linear};
  }
  if (name == "x059") {
    return Arch{Version::V5_2, LowRankForm::ReluSquared};
  }
  std::vector<std::string_view> names = {"x058", "x059"};
  for (const VersionTraits& version : kVersions) {
    if (name == version.name) {
      return Arch{version.version, LowRankForm::None};
    }
    names.push_back(version.name);
  }
  return usage_error("unknown version '{}'{}", name, suggestion(name, names));
}

// FFN widths of published models: 4 D for v4, v5.0 and v7, 3.5 D rounded down to 32 between.
uint64_t published_ffn(Version version, uint64_t n_embd) {
  const bool is_four = version == Version::V4 || version == Version::V5_0 || is_v7(version);
  return is_four ? 4 * n_embd : std::max<uint64_t>(32, n_embd * 7 / 2 / 32 * 32);
}

// Inner sizes as RWKV-LM chooses them: fixed for v6, growing with the width for v7.
void choose_loras(ModelConfig& config) {
  const uint64_t n = config.n_embd;
  if (config.version == Version::V6) {
    config.mix_lora = n < 4096 ? 32 : 64;
    config.decay_lora = n < 4096 ? 64 : 128;
  } else if (is_v7(config.version)) {
    config.deep_embed = config.version == Version::V7a ? 32 : 0;
    config.decay_lora = n < 2048 ? 64 : 96;
    config.iclr_lora = n < 2048 ? 64 : 96;
    config.value_lora = n < 2048 ? 32 : 64;
    config.gate_lora = n < 2048 ? 128 : 256;
  }
}

Result<ModelConfig> config_for(const NewModelOptions& options, const Arch& arch) {
  ModelConfig config;
  config.version = arch.version;
  config.low_rank = arch.form;
  config.n_layer = options.n_layer;
  config.n_embd = options.n_embd;
  config.n_vocab = options.n_vocab;
  config.dim_att = options.n_embd;
  config.dim_ffn =
      options.dim_ffn > 0 ? options.dim_ffn : published_ffn(arch.version, options.n_embd);
  config.head_size = options.head_size > 0 ? options.head_size : 64;
  if (options.n_layer == 0 || options.n_embd == 0 || options.n_vocab < 2) {
    return usage_error("{} layers x {} with a vocabulary of {} is not a valid model",
                       options.n_layer, options.n_embd, options.n_vocab);
  }
  if (config.n_embd % config.head_size != 0) {
    return usage_error("a width of {} is not a multiple of the head size {}", config.n_embd,
                       config.head_size);
  }
  config.n_head = config.n_embd / config.head_size;
  if (config.version == Version::V4) {
    config.n_head = config.head_size = 0;
  }
  choose_loras(config);
  return config;
}

uint64_t size_of(const ModelConfig& config, Dim dim) {
  switch (dim) {
    case Dim::Clusters:
    case Dim::PredictorHidden:
    case Dim::Two:
    case Dim::None:
      return 0;
    case Dim::Vocab:
      return config.n_vocab;
    case Dim::Embd:
      return config.n_embd;
    case Dim::Att:
      return config.dim_att;
    case Dim::Ffn:
      return config.dim_ffn;
    case Dim::Head:
      return config.n_head;
    case Dim::HeadSize:
      return config.head_size;
    case Dim::MixLora:
      return config.mix_lora;
    case Dim::MixLora5:
      return 5 * config.mix_lora;
    case Dim::Five:
      return 5;
    case Dim::DecayLora:
      return config.decay_lora;
    case Dim::IclrLora:
      return config.iclr_lora;
    case Dim::ValueLora:
      return config.value_lora;
    case Dim::GateLora:
      return config.gate_lora;
    case Dim::DeepEmbed:
      return config.deep_embed;
    case Dim::DeepEmbed2:
      return config.deep_embed * config.deep_embed;
  }
  return 0;
}

// The list of tensors to write, each with the kind of its values.
class Listing {
 public:
  Listing(const ModelConfig& config, uint64_t rank) : config_(config), rank_(rank) {}

  void add_all() {
    const auto table = version_traits(config_.version).tensors();
    add_where(table, -1, [](const TensorSpec& s) { return s.role == Role::Embedding; });
    for (uint64_t block = 0; block < config_.n_layer; ++block) {
      add_where(table, static_cast<int64_t>(block), [&](const TensorSpec& s) {
        return s.where == Where::EveryBlock || (s.where == Where::FirstBlock && block == 0) ||
               (s.where == Where::LaterBlocks && block > 0);
      });
    }
    add_where(table, -1, [](const TensorSpec& s) {
      return s.where == Where::Model && s.role != Role::Embedding;
    });
  }
  std::vector<NewTensor> take() { return std::move(tensors_); }

 private:
  template <typename Wanted>
  void add_where(std::span<const TensorSpec> table, int64_t block, Wanted wanted) {
    for (size_t i = 0; i < table.size(); ++i) {
      const TensorSpec& spec = table[i];
      if ((spec.versions & only(config_.version)) == 0 || spec.presence == Presence::Optional ||
          !wanted(spec)) {
        continue;
      }
      add_spec(spec, block);
      i += spec.presence == Presence::Alternative ? 1 : 0;
    }
  }

  void add_spec(const TensorSpec& spec, int64_t block) {
    std::vector<uint64_t> shape;
    for (size_t i = 0; i < spec.n_dims(); ++i) {
      shape.push_back(size_of(config_, spec.shape[i]));
    }
    const std::string name = block < 0 ? spec.name : fmt::format("blocks.{}.{}", block, spec.name);
    const bool is_output = std::string_view(spec.name) == "att.output.weight";
    if (spec.role == Role::Projection && config_.low_rank != LowRankForm::None && !is_output) {
      const std::string stem = name.substr(0, name.size() - std::string_view(".weight").size());
      add(stem + "1.weight", spec, block, {rank_, shape[1]});
      add(stem + "2.weight", spec, block, {shape[0], rank_});
      if (config_.low_rank == LowRankForm::ReluSquared) {
        add(stem + "_diag", spec, block, {shape[0]});
      }
      return;
    }
    add(name, spec, block, shape);
  }

  void add(const std::string& name, const TensorSpec& spec, int64_t block,
           std::vector<uint64_t> shape) {
    tensors_.push_back({name, spec.role, spec.layout, std::move(shape), block});
  }

  ModelConfig config_;
  uint64_t rank_;
  std::vector<NewTensor> tensors_;
};

}  // namespace

Result<ModelConfig> new_model_config(const NewModelOptions& options) {
  RWKV_ASSIGN(const Arch arch, find_arch(options.arch));
  return config_for(options, arch);
}

std::vector<NewTensor> new_model_tensors(const ModelConfig& config, uint64_t rank) {
  Listing listing(config, rank > 0 ? rank : std::max<uint64_t>(1, config.n_embd / 8));
  listing.add_all();
  return listing.take();
}

}  // namespace rwkv::press

#include "compressor/checkpoint/synth.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "compressor/checkpoint/pth_writer.h"
#include "compressor/checkpoint/synth_values.h"
#include "formats/arch/identify.h"
#include "formats/arch/versions.h"
#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/base/nearest.h"
#include "formats/container/safetensors_writer.h"

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
  return usage_error("--arch is '{}'{}", name, suggestion(name, names));
}

// FFN widths of published models: 4 D for v4, v5.0 and v7, 3.5 D rounded down to 32 between.
uint64_t published_ffn(Version version, uint64_t n_embd) {
  const bool is_four = version == Version::V4 || version == Version::V5_0 || version == Version::V7;
  return is_four ? 4 * n_embd : std::max<uint64_t>(32, n_embd * 7 / 2 / 32 * 32);
}

// Inner sizes as RWKV-LM chooses them: fixed for v6, growing with the width for v7.
void choose_loras(ModelConfig& config) {
  const uint64_t n = config.n_embd;
  if (config.version == Version::V6) {
    config.mix_lora = n < 4096 ? 32 : 64;
    config.decay_lora = n < 4096 ? 64 : 128;
  } else if (config.version == Version::V7) {
    config.decay_lora = n < 2048 ? 64 : 96;
    config.iclr_lora = n < 2048 ? 64 : 96;
    config.value_lora = n < 2048 ? 32 : 64;
    config.gate_lora = n < 2048 ? 128 : 256;
  }
}

Result<ModelConfig> config_for(const SynthOptions& options, const Arch& arch) {
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
    return usage_error("{} layers x {} with a vocabulary of {} is no model", options.n_layer,
                       options.n_embd, options.n_vocab);
  }
  if (config.n_embd % config.head_size != 0) {
    return usage_error("--n-embd {} is not a multiple of the head size {}", config.n_embd,
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
  }
  return 0;
}

// The list of tensors to write, each with what its values should look like.
class Listing {
 public:
  Listing(const ModelConfig& config, uint64_t rank, DType dtype)
      : config_(config), rank_(rank), dtype_(dtype) {}

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
  const std::vector<TensorInfo>& infos() const { return infos_; }
  const std::vector<SynthTensor>& tensors() const { return tensors_; }

 private:
  template <typename Wanted>
  void add_where(std::span<const TensorSpec> table, int64_t block, Wanted wanted) {
    for (size_t i = 0; i < table.size(); ++i) {
      const TensorSpec& spec = table[i];
      if ((spec.versions & only(config_.version)) == 0 || !wanted(spec)) {
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
    const double depth = config_.n_layer > 1 && block > 0
                             ? static_cast<double>(block) / static_cast<double>(config_.n_layer - 1)
                             : 0.0;
    tensors_.push_back({name, spec.role, spec.layout, shape, depth});
    infos_.push_back({name, dtype_, std::move(shape)});
  }

  ModelConfig config_;
  uint64_t rank_;
  DType dtype_;
  std::vector<TensorInfo> infos_;
  std::vector<SynthTensor> tensors_;
};

void store(DType dtype, std::span<const float> values, std::vector<std::byte>& out) {
  const size_t size = traits(dtype).block_bytes;
  out.resize(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte* to = out.data() + i * size;
    if (dtype == DType::BF16) {
      store_le(to, f32_to_bf16(values[i]));
    } else if (dtype == DType::F16) {
      store_le(to, f32_to_f16(values[i]));
    } else {
      store_le(to, values[i]);
    }
  }
}

}  // namespace

Result<ModelConfig> write_synthetic(const SynthOptions& options) {
  RWKV_ASSIGN(const Arch arch, find_arch(options.arch));
  RWKV_ASSIGN(const ModelConfig config, config_for(options, arch));
  const DTypeTraits* dtype = find_dtype(options.dtype);
  if (!dtype ||
      (dtype->dtype != DType::BF16 && dtype->dtype != DType::F16 && dtype->dtype != DType::F32)) {
    return usage_error("--dtype is '{}'; bf16, f16 or f32 is wanted", options.dtype);
  }
  const std::string ending = std::filesystem::path(options.output).extension().string();
  if (ending != ".pth" && ending != ".safetensors" && ending != ".st") {
    return usage_error("output '{}' ends in '{}'; .pth, .safetensors or .st is wanted",
                       options.output, ending);
  }
  const uint64_t rank = options.rank > 0 ? options.rank : std::max<uint64_t>(1, config.n_embd / 8);
  Listing listing(config, rank, dtype->dtype);
  listing.add_all();
  const auto make = [&](size_t index, std::vector<std::byte>& out) -> Status {
    const std::vector<float> values = synth_values(listing.tensors()[index], options.seed);
    store(dtype->dtype, values, out);
    options.progress(static_cast<double>(index + 1) / static_cast<double>(listing.infos().size()));
    return {};
  };
  RWKV_TRY(ending == ".pth"
               ? write_pth(options.output, options.existing, listing.infos(), make)
               : write_safetensors(options.output, options.existing, listing.infos(), make));
  return config;
}

}  // namespace rwkv::press

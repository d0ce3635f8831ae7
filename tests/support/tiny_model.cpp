// Follows compressor/checkpoint/synth_values.cpp (sizes of values), whose code tests of the runtime
// may not use.
#include "tests/support/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "formats/arch/identify.h"
#include "formats/arch/versions.h"
#include "formats/base/checksum.h"
#include "formats/container/packed_writer.h"
#include "formats/container/shard_index.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::test {
namespace {

void require(const Status& status) {
  if (!status.ok()) {
    throw std::runtime_error(status.message());
  }
}

template <typename T>
T require(Result<T> result) {
  require(result.status());
  return result.take();
}

// Inner sizes of the small matrices of v6 and v7: all different, so that none is mistaken.
uint64_t size_of(Dim dim, const TinyModelOptions& options) {
  switch (dim) {
    case Dim::Vocab:
      return options.n_vocab;
    case Dim::Embd:
    case Dim::Att:
      return options.n_embd;
    case Dim::Ffn:
      return options.dim_ffn;
    case Dim::Head:
      return options.n_head;
    case Dim::HeadSize:
      return options.n_embd / options.n_head;
    case Dim::MixLora:
      return 4;
    case Dim::MixLora5:
      return 20;
    case Dim::Five:
      return 5;
    case Dim::DecayLora:
      return 6;
    case Dim::IclrLora:
      return 7;
    case Dim::ValueLora:
      return 3;
    case Dim::GateLora:
      return 11;
    case Dim::Clusters:
      return options.n_cluster;
    case Dim::PredictorHidden:
      return 13;
    case Dim::DeepEmbed:
      return 5;
    case Dim::DeepEmbed2:
      return 25;
    case Dim::Two:
      return 2;
    case Dim::None:
      break;
  }
  return 0;
}

// RWKV-Lite leaves att.output dense.
bool becomes_pair(const TensorSpec& spec, const TinyModelOptions& options) {
  return options.low_rank != LowRankForm::None && spec.role == Role::Projection &&
         std::string_view(spec.name) != "att.output.weight";
}

void add_tensors(const TensorSpec& spec, const std::string& prefix, const TinyModelOptions& options,
                 std::vector<TensorInfo>& infos) {
  std::vector<uint64_t> shape;
  for (size_t i = 0; i < spec.n_dims(); ++i) {
    shape.push_back(size_of(spec.shape[i], options));
  }
  const std::string name = prefix + spec.name;
  if (!becomes_pair(spec, options)) {
    infos.push_back({name, DType::F32, shape});
    return;
  }
  const std::string stem = name.substr(0, name.size() - std::string_view(".weight").size());
  infos.push_back({stem + "1.weight", DType::F32, {options.low_rank_size, shape[1]}});
  infos.push_back({stem + "2.weight", DType::F32, {shape[0], options.low_rank_size}});
  if (options.low_rank == LowRankForm::ReluSquared) {
    infos.push_back({stem + "_diag", DType::F32, {shape[0]}});
  }
}

// Of what stages may add, whether these options want it.
bool is_wanted(const TensorSpec& spec, const TinyModelOptions& options) {
  if (spec.presence != Presence::Optional) {
    return true;
  }
  const std::string_view name = spec.name;
  if (spec.role == Role::InitialState) {
    return options.initial_state;
  }
  if (name.starts_with("head.")) {
    return options.n_cluster > 0;
  }
  return spec.role == Role::SignBits    ? options.sign_predictor
         : spec.role == Role::Predictor ? options.mlp_predictor
                                        : options.sign_predictor || options.mlp_predictor;
}

/// The tensors of a checkpoint of that version; identify() brings them into packed order.
void add_table(std::span<const TensorSpec> table, const TinyModelOptions& options,
               std::vector<TensorInfo>& infos) {
  for (size_t i = 0; i < table.size(); ++i) {
    const TensorSpec& spec = table[i];
    if ((spec.versions & only(options.version)) == 0 || !is_wanted(spec, options)) {
      continue;
    }
    if (spec.where == Where::Model) {
      add_tensors(spec, "", options, infos);
      continue;
    }
    const uint64_t first = spec.where == Where::LaterBlocks ? 1 : 0;
    const uint64_t end = spec.where == Where::FirstBlock ? 1 : options.n_layer;
    for (uint64_t block = first; block < end; ++block) {
      add_tensors(spec, fmt::format("blocks.{}.", block), options, infos);
    }
    i += spec.presence == Presence::Alternative ? 1 : 0;
  }
}

std::vector<TensorInfo> checkpoint_tensors(const TinyModelOptions& options) {
  std::vector<TensorInfo> infos;
  add_table(version_traits(options.version).tensors(), options, infos);
  add_table(tensors_of_stages(), options, infos);
  return infos;
}

// Clusters of 1, 2, 3, ... parts of the vocabulary.
float first_of_cluster(uint64_t cluster, const TinyModelOptions& options) {
  const uint64_t n_parts = options.n_cluster * (options.n_cluster + 1) / 2;
  return static_cast<float>(cluster * (cluster + 1) / 2 * options.n_vocab / n_parts);
}

// Values that must make sense, in place of noise.
bool fill_exact(const TensorBinding& binding, const TinyModelOptions& options,
                std::vector<float>& values) {
  for (uint64_t i = 0; i < values.size(); ++i) {
    if (binding.name == "head.tokens") {
      values[i] = static_cast<float>(options.n_vocab - 1 - i);
    } else if (binding.name == "head.cluster.first") {
      values[i] = first_of_cluster(i, options);
    } else if (binding.name.ends_with("predictor.threshold")) {
      values[i] = options.predictor_threshold;
    } else if (binding.name.ends_with("predictor.bias")) {
      values[i] = 0.0f;  // so that a predictor that names everything changes nothing
    } else {
      return false;
    }
  }
  return true;
}

float vector_value(const std::string& name, uint64_t seed, uint64_t i, uint64_t n) {
  const float x = noise(seed, i);
  const float t = static_cast<float>(i) / static_cast<float>(n);
  const auto is = [&](std::string_view end) { return name.ends_with(end); };
  if (is("time_decay") || is("att.w0")) {
    return -6.0f + 7.0f * t;  // exponents, from what is kept long to what is forgotten at once
  }
  if (is("time_first") || is("time_faaaa") || is("r_k")) {
    return 0.5f * x;
  }
  if (is(".bias") || is("a0") || is("v0") || is("_diag")) {
    return 0.2f * x;
  }
  if (is(".weight")) {  // norms
    return 1.0f + 0.2f * x;
  }
  if (is("k_k") || is("k_a")) {
    return 0.9f + 0.1f * x;
  }
  return 0.5f + 0.5f * x;  // mixing coefficients
}

/// Numbers as they lie in the packed file; which of them is which does not matter in noise.
std::vector<float> values_of(const TensorBinding& binding, const TinyModelOptions& options) {
  const uint64_t seed = xxh64(as_bytes(binding.name)) ^ options.seed;
  const uint64_t cols = binding.packed_cols();
  std::vector<float> values(binding.packed_rows() * cols);
  if (fill_exact(binding, options, values)) {
    return values;
  }
  const bool inputs_are_rows = binding.role == Role::FfnValue;
  const auto n_inputs = static_cast<float>(inputs_are_rows ? binding.packed_rows() : cols);
  // Uniform noise of deviation 1 / sqrt(inputs) keeps the size of what passes through; the head's
  // is larger, so that some tokens are much more probable than others.
  const float unit = std::sqrt(3.0f / n_inputs);
  const float scale = binding.role == Role::Head ? 3.0f * unit : unit;
  for (uint64_t i = 0; i < values.size(); ++i) {
    values[i] = binding.role == Role::Vector ? vector_value(binding.name, seed, i, values.size())
                                             : scale * noise(seed, i);
  }
  if (binding.role == Role::Head && options.n_cluster > 0) {
    std::vector<float> turned;
    for (uint64_t row = values.size() / cols; row-- > 0;) {
      const auto from = values.begin() + static_cast<std::ptrdiff_t>(row * cols);
      turned.insert(turned.end(), from, from + static_cast<std::ptrdiff_t>(cols));
    }
    return turned;
  }
  return values;
}

// Whether rows are read one by one.
bool is_read_by_row(Role role, const TinyModelOptions& options) {
  switch (role_traits(role).access) {
    case Access::EveryToken:
    case Access::Never:
      return false;
    case Access::OneRow:
      return true;
    case Access::NamedNeurons:
      return role == Role::FfnValue || options.sign_predictor || options.mlp_predictor;
    case Access::ChosenClusters:
      return options.n_cluster > 0;
  }
  return true;
}

Codec codec_of(const TensorBinding& binding, const TinyModelOptions& options) {
  if (binding.role == Role::Vector || binding.role == Role::InitialState) {
    return Codec::F32;
  }
  if (binding.role == Role::SignBits) {
    return Codec::SignRow;
  }
  if (role_traits(binding.role).access == Access::OneRow && options.codec == Codec::Mm8) {
    return Codec::F32;  // its rows are read by themselves
  }
  if (binding.role == Role::Embedding && options.embedding) {
    return *options.embedding;
  }
  const Codec in_rows = codec_traits(options.codec).in_rows;
  const Codec codec =
      in_rows != Codec::F32 && is_read_by_row(binding.role, options) ? in_rows : options.codec;
  const bool may_quantize = (role_traits(binding.role).techniques & kQuantize) != 0;
  return may_quantize || options.codec == Codec::F32 ? codec : Codec::F16;
}

PackedFilePlan file_plan(const Identified& model, const std::vector<TensorInfo>& infos,
                         const TinyModelOptions& options) {
  PackedFilePlan file;
  file.model_name = "tiny";
  file.tool_version = "test";
  file.recipe = "[]";
  file.seed = options.seed;
  file.source_format = "safetensors";
  file.source_file = "tiny.safetensors";
  ModelConfig config = model.config;
  config.head_p_min = options.p_min;
  config.head_k_min = options.k_min;
  config.head_k_max = options.k_max;
  config.first_cluster_always = options.first_cluster_always;
  // Tensors do not show it; a value of its own shows that the file's is used.
  const bool is_v5 = config.version == Version::V5_0 || config.version == Version::V5_1 ||
                     config.version == Version::V5_2;
  config.group_norm_eps = is_v5 ? 1e-5f : config.group_norm_eps;
  config_to_metadata(config, file.config);
  if (options.vocabulary != TinyVocabulary::None) {
    vocabulary_to_metadata(tiny_vocabulary(options.vocabulary), file.vocabulary);
  }
  for (const TensorBinding& binding : model.tensors) {
    file.tensors.push_back({binding.name, codec_of(binding, options), binding.packed_shape(),
                            infos[binding.source], binding.source});
  }
  return file;
}

}  // namespace

std::vector<TinyModelOptions> all_tiny_models() {
  std::vector<TinyModelOptions> models;
  for (const VersionTraits& version : kVersions) {
    models.push_back({.version = version.version});
  }
  for (const LowRankForm form : {LowRankForm::Linear, LowRankForm::ReluSquared}) {
    models.push_back({.version = Version::V5_2, .low_rank = form});
  }
  return models;
}

namespace {

std::vector<std::byte> encode(const TensorBinding& binding, const CodecTraits& codec,
                              const TinyModelOptions& options) {
  const MatrixShape shape = {binding.packed_rows(), binding.packed_cols(),
                             binding.layout == Layout::Transposed ? Outputs::Cols : Outputs::Rows};
  std::vector<std::byte> encoded(codec.encoded_bytes(shape.rows, shape.cols));
  std::vector<float> values = values_of(binding, options);
  if (binding.name == options.spoiled) {
    values[0] = std::numeric_limits<float>::quiet_NaN();
  }
  require(codec.encode(values, shape, encoded));
  return encoded;
}

constexpr uint64_t kPieceRows = 64;

bool has_copies(const TensorBinding& binding, const TinyModelOptions& options) {
  const Role role = binding.role;
  return !options.narrow.empty() && codec_traits(codec_of(binding, options)).is_lossy &&
         (role == Role::Projection || role == Role::FfnKey || role == Role::FfnValue ||
          role == Role::Head);
}

// A copy of a matrix in a narrower codec.
struct TinyCopy {
  const TensorBinding* binding;
  const CodecTraits* codec;  ///< in rows, if they are read so
  const CodecTraits* width;
};

std::vector<TinyCopy> copies_of(const Identified& model, const TinyModelOptions& options) {
  std::vector<TinyCopy> copies;
  for (const TensorBinding& binding : model.tensors) {
    for (size_t i = 0; i < options.narrow.size() && has_copies(binding, options); ++i) {
      const CodecTraits& codec = codec_traits(options.narrow[i]);
      const bool in_rows = is_read_by_row(binding.role, options) && !options.spoils_rows;
      copies.push_back({&binding, in_rows ? &codec_traits(codec.in_rows) : &codec, &codec});
    }
  }
  return copies;
}

// The checksum of each piece of an encoded matrix.
std::vector<uint64_t> piece_checksums(std::span<const std::byte> encoded, const CodecTraits& codec,
                                      const TensorBinding& binding) {
  std::vector<uint64_t> checksums;
  const uint64_t shared = codec.shared_bytes(binding.packed_cols());
  const uint64_t unit = codec.unit_bytes(binding.packed_cols());
  for (uint64_t row = 0; row < binding.packed_rows(); row += kPieceRows) {
    const uint64_t n = std::min(kPieceRows, binding.packed_rows() - row);
    checksums.push_back(xxh64(encoded.subspan(shared + row / codec.unit_rows * unit,
                                              (n + codec.unit_rows - 1) / codec.unit_rows * unit)));
  }
  return checksums;
}

ShardTable shard_table(const Identified& model, const TinyModelOptions& options) {
  ShardTable table;
  for (const Codec codec : options.narrow) {
    table.codecs.emplace_back(codec_traits(codec).name);
  }
  if (options.may_leave_out) {
    table.codecs.emplace_back(kLeftOut);
  }
  const std::vector<TinyCopy> copies = copies_of(model, options);
  for (size_t at = 0; at < copies.size(); at += options.narrow.size()) {
    const TensorBinding& binding = *copies[at].binding;
    table.tensors.push_back(binding.name);
    table.rows.push_back(kPieceRows);
    const CodecTraits& full = codec_traits(codec_of(binding, options));
    std::vector<std::vector<uint64_t>> checksums = {
        piece_checksums(encode(binding, full, options), full, binding)};
    for (size_t i = 0; i < options.narrow.size(); ++i) {
      const CodecTraits& codec = *copies[at + i].codec;
      checksums.push_back(piece_checksums(encode(binding, codec, options), codec, binding));
    }
    for (size_t piece = 0; piece < checksums[0].size(); ++piece) {
      const double importance = 1.0 / static_cast<double>(1 + table.losses.size());
      for (size_t i = 0; i < checksums.size(); ++i) {
        table.xxh64.push_back(checksums[i][piece]);
        if (i > 0) {
          table.losses.push_back(importance * static_cast<double>(i * i));
        }
      }
      if (options.may_leave_out) {
        table.xxh64.push_back(0);
        table.losses.push_back(piece % 3 == 0 ? 30 * importance : -1);
      }
    }
  }
  return table;
}

}  // namespace

std::string write_tiny_model(const ScratchFolder& folder, const TinyModelOptions& options,
                             std::string_view name) {
  const std::vector<TensorInfo> infos = checkpoint_tensors(options);
  const Identified model = require(identify(infos, ShapesAre::AsInCheckpoint));
  const std::string path = folder.file(name);
  PackedFilePlan plan = file_plan(model, infos, options);
  const std::vector<TinyCopy> copies = copies_of(model, options);
  for (const auto& [binding, codec, width] : copies) {
    plan.tensors.push_back({narrow_copy_name(binding->name, width->name), codec->codec,
                            binding->packed_shape(), infos[binding->source], binding->source});
  }
  if (!copies.empty()) {
    put_shard_table(shard_table(model, options), plan.config);
  }
  const auto writer = require(begin_packed_file(path, OutputFile::Existing::Refuse, plan));
  for (const TensorBinding& binding : model.tensors) {
    require(writer->append(encode(binding, codec_traits(codec_of(binding, options)), options)));
  }
  for (const auto& [binding, codec, width] : copies) {
    require(writer->append(encode(*binding, *codec, options)));
  }
  require(writer->finish());
  return path;
}

}  // namespace rwkv::test

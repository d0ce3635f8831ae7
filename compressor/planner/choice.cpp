#include "compressor/planner/choice.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "compressor/stages/quantize.h"

namespace rwkv::press {
namespace {

constexpr std::string_view kWeightSuffix = ".weight";

std::string stem_of(const PlannedMatrix& matrix) {
  return matrix.name.substr(0, matrix.name.size() - kWeightSuffix.size());
}

// The key that occurs most; the smallest of several.
template <typename Key>
Key most_frequent(const std::map<Key, size_t>& counts) {
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

void emit_override(YAML::Emitter& out, const std::string& match, const char* key,
                   const std::string& value) {
  out << YAML::Flow << YAML::BeginMap << YAML::Key << "match" << YAML::Value << YAML::DoubleQuoted
      << match << YAML::Key << key << YAML::Value << value << YAML::EndMap;
}

void emit_low_rank(YAML::Emitter& out, const Choice& choice,
                   const std::vector<PlannedMatrix>& matrices) {
  std::set<std::string> products;
  std::map<double, size_t> factors;
  for (size_t i = 0; i < matrices.size(); ++i) {
    if (choice.matrices[i].factor > 0) {
      products.insert(matrices[i].product);
      ++factors[choice.matrices[i].factor];
    }
  }
  if (products.empty()) {
    return;
  }
  const double usual = most_frequent(factors);
  out << YAML::BeginMap << YAML::Key << "low_rank" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "method" << YAML::Value << (choice.method.whitened ? "whitened" : "svd");
  if (choice.method.whitened) {
    out << YAML::Key << "sequential" << YAML::Value << false;
  }
  out << YAML::Key << "diagonal" << YAML::Value << choice.method.diagonal;
  out << YAML::Key << "factor" << YAML::Value << fmt::format("{}", usual);
  out << YAML::Key << "matrices" << YAML::Value << YAML::Flow
      << std::vector<std::string>(products.begin(), products.end());
  out << YAML::Key << "overrides" << YAML::Value << YAML::BeginSeq;
  for (size_t i = 0; i < matrices.size(); ++i) {
    if (products.contains(matrices[i].product) && choice.matrices[i].factor != usual) {
      emit_override(out, matrices[i].name, "factor", fmt::format("{}", choice.matrices[i].factor));
    }
  }
  out << YAML::EndSeq << YAML::EndMap << YAML::EndMap;
}

bool is_lut(Codec codec) {
  return codec_traits(codec).lut != nullptr;
}

// The usual codec is that of the recipe, but not for predictors and the clusters' matrix if it is a
// lut codec: they were fitted without it, are few, and stay in int8. Then globs name the matrices
// of the blocks.
void emit_quantize(YAML::Emitter& out, const Choice& choice,
                   const std::vector<PlannedMatrix>& matrices) {
  std::map<Codec, size_t> codecs;
  for (const MatrixSetting& setting : choice.matrices) {
    ++codecs[setting.codec];
  }
  const Codec usual = most_frequent(codecs);
  const Codec others = is_lut(usual) ? Codec::I8Row : usual;
  const bool learns =
      is_lut(choice.lora) || std::any_of(codecs.begin(), codecs.end(),
                                         [](const auto& codec) { return is_lut(codec.first); });
  out << YAML::BeginMap << YAML::Key << "quantize" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "codec" << YAML::Value << codec_traits(others).name;
  out << YAML::Key << "lora_codec" << YAML::Value << codec_traits(choice.lora).name;
  out << YAML::Key << "min_numbers" << YAML::Value << 0;
  if (learns) {
    // What the plan was measured with: text is needed again.
    out << YAML::Key << "quantizer" << YAML::Value << "refined";
  }
  out << YAML::Key << "overrides" << YAML::Value << YAML::BeginSeq;
  if (others != usual) {
    for (const char* glob : {"*.att.*.weight", "*.ffn.[krv]*.weight"}) {
      emit_override(out, glob, "codec", codec_traits(usual).name);
    }
  }
  for (size_t i = 0; i < matrices.size(); ++i) {
    const MatrixSetting& setting = choice.matrices[i];
    if (setting.codec != (matrices[i].block >= 0 ? usual : others)) {
      emit_override(out,
                    setting.factor > 0 ? stem_of(matrices[i]) + "[12].weight" : matrices[i].name,
                    "codec", codec_traits(setting.codec).name);
    }
  }
  out << YAML::EndSeq << YAML::EndMap << YAML::EndMap;
}

}  // namespace

Result<std::vector<PlannedMatrix>> planned_matrices(const Identified& model) {
  const ModelConfig& config = model.config;
  if (config.low_rank != LowRankForm::None || config.n_cluster > 0 || config.predictor_hidden > 0) {
    return usage_error(
        "this model already has factor pairs, clusters or predictors; a plan starts from the dense "
        "checkpoint");
  }
  std::vector<PlannedMatrix> matrices;
  for (const TensorBinding& binding : model.tensors) {
    switch (binding.role) {
      case Role::Projection:
      case Role::FfnKey:
      case Role::FfnValue:
      case Role::Embedding:
      case Role::Head:
        break;
      case Role::Vector:
      case Role::Lora:
      case Role::TokenRows:
      case Role::InitialState:
      case Role::Predictor:
      case Role::SignBits:
      case Role::ClusterHead:
      case Role::Ignored:
        continue;
    }
    PlannedMatrix matrix;
    matrix.name = binding.name;
    matrix.role = binding.role;
    matrix.block = binding.block;
    matrix.rows = binding.shape[0];
    matrix.cols = binding.shape[1];
    matrix.layout = binding.layout;
    if (binding.block >= 0) {
      const size_t prefix = fmt::format("blocks.{}.", binding.block).size();
      matrix.product = stem_of(matrix).substr(prefix);
      matrix.may_pair = (role_traits(binding.role).techniques & kLowRank) != 0;
    }
    matrices.push_back(std::move(matrix));
  }
  return matrices;
}

Choice dense_choice(size_t n, Codec codec, Codec lora) {
  Choice choice;
  choice.matrices.assign(n, {0, codec});
  choice.lora = lora;
  return choice;
}

uint64_t encoded_bytes(const PlannedMatrix& matrix, const MatrixSetting& setting) {
  const auto bytes = [&](uint64_t rows, uint64_t cols) {
    return codec_traits(codec_for_columns(setting.codec, cols)).encoded_bytes(rows, cols);
  };
  if (setting.factor == 0) {
    const uint64_t cols = matrix.packed_cols();
    return bytes(matrix.rows * matrix.cols / cols, cols);
  }
  const auto rank = static_cast<uint64_t>(rank_of(setting.factor, matrix.rows, matrix.cols));
  return bytes(rank, matrix.cols) + bytes(matrix.rows, rank);
}

int64_t rank_of(double factor, uint64_t rows, uint64_t cols) {
  return std::max<int64_t>(
      1, static_cast<int64_t>(static_cast<double>(std::min(rows, cols)) / factor));
}

RecipeFrame frame_for(const ModelConfig& config) {
  // Rows that are read cost about as much as the clusters' own matrix where there are some roots
  // of the vocabulary; the presets' 200 serve 65,536 tokens.
  constexpr double kClustersPerRoot = 1.6;
  constexpr uint64_t kMostClusters = 200;
  constexpr uint64_t kNarrow = 256;
  RecipeFrame frame;
  const double root = std::sqrt(static_cast<double>(config.n_vocab));
  frame.clusters = std::clamp<uint64_t>(static_cast<uint64_t>(kClustersPerRoot * root), 2,
                                        std::min(kMostClusters, config.n_vocab));
  frame.hidden = config.n_embd <= kNarrow ? 16 : 64;
  return frame;
}

std::string recipe_yaml(const Choice& choice, const std::vector<PlannedMatrix>& matrices,
                        const RecipeFrame& frame) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  out << YAML::Key << "name" << YAML::Value << YAML::DoubleQuoted << frame.name;
  out << YAML::Key << "seed" << YAML::Value << frame.seed;
  out << YAML::Key << "calibration" << YAML::Value << YAML::Flow << YAML::BeginMap << YAML::Key
      << "samples" << YAML::Value << frame.samples << YAML::Key << "length" << YAML::Value
      << frame.length << YAML::EndMap;
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  emit_low_rank(out, choice, matrices);
  if (choice.p_min > 0) {
    out << YAML::BeginMap << YAML::Key << "cluster_head" << YAML::Value << YAML::Flow
        << YAML::BeginMap << YAML::Key << "clusters" << YAML::Value << frame.clusters << YAML::Key
        << "p_min" << YAML::Value << fmt::format("{}", choice.p_min) << YAML::EndMap
        << YAML::EndMap;
  }
  if (choice.recall > 0) {
    out << YAML::BeginMap << YAML::Key << "ffn_predictor" << YAML::Value << YAML::Flow
        << YAML::BeginMap << YAML::Key << "kinds" << YAML::Value << "both" << YAML::Key << "recall"
        << YAML::Value << fmt::format("{}", choice.recall) << YAML::Key << "hidden" << YAML::Value
        << frame.hidden << YAML::EndMap << YAML::EndMap;
  }
  emit_quantize(out, choice, matrices);
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::string describe(const MatrixSetting& setting) {
  const char* codec = codec_traits(setting.codec).name;
  return setting.factor > 0 ? fmt::format("k = {}, {}", setting.factor, codec) : codec;
}

}  // namespace rwkv::press

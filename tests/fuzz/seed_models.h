// What inputs of several files belong to, the same for the seeds and for the targets.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/arch/model_config.h"
#include "formats/container/tensor_source.h"
#include "tests/support/tiny_model.h"

namespace rwkv::test {

/// The model of saved states.
inline ModelConfig state_model() {
  ModelConfig config;
  config.version = Version::V6;
  config.n_layer = 1;
  config.n_embd = 4;
  config.dim_att = 4;
  config.n_head = 2;
  config.head_size = 2;
  config.n_vocab = 3;
  return config;
}
inline constexpr uint64_t kStateModelId = 7;

/// The model of saved conversations.
inline TinyModelOptions conversation_model() {
  TinyModelOptions options;
  options.version = Version::V6;
  options.vocabulary = TinyVocabulary::Bytes;
  options.n_layer = 1;
  options.n_embd = 4;
  options.n_head = 1;
  options.dim_ffn = 5;
  options.n_vocab = 256;
  return options;
}

/// The tensors that adapters change: matrices of two shapes, a vector, a scalar.
inline std::vector<TensorInfo> adapter_base() {
  return {{"emb.weight", DType::F32, {3, 4}},
          {"blocks.0.att.key.weight", DType::F32, {4, 4}},
          {"blocks.0.ffn.key.weight", DType::F32, {8, 4}},
          {"blocks.0.ln1.weight", DType::F32, {4}},
          {"blocks.0.att.scale", DType::F32, {}}};
}

/// The bytes of the checkpoint that statistics belong to.
inline constexpr std::string_view kStatisticsCheckpoint = "checkpoint";

/// The settings of the training that snapshots belong to.
inline constexpr std::string_view kSnapshotSettings = "seed: 1";

/// What measured curves belong to.
inline constexpr std::string_view kCurvesKey = "key";

/// The files of a sweep of one point.
inline constexpr std::string_view kSweepPoint = "0000-0123456789abcdef";
inline constexpr std::string_view kSweepManifest = R"({"format": "rwkv-press-sweep-manifest",
"version": 1, "configuration": "0123", "file": "sweep.yaml", "title": "t",
"model": {"name": "m", "description": "v5", "fp16_bytes": 10},
"axes": [{"name": "quantize.codec", "values": ["f16", "i8_row"]}],
"machine": {"cpu": "c", "threads": 2, "kernels": "generic"},
"points": [{"id": "0000-0123456789abcdef", "label": "f16", "settings": {"quantize.codec": "f16"}}],
"ablation": [{"label": "none", "point": "0000-0123456789abcdef"}],
"baseline": "0000-0123456789abcdef"})";
inline constexpr std::string_view kSweepResult = R"({"file_bytes": 10, "resident_bytes": 20,
"weight_bytes": 8, "memory": "loaded", "xxh64": "01", "seconds": 1.5,
"metrics": {"text.bits_per_byte": {"value": 0.5, "standard_error": 0.01, "n": 3, "unit": "bits"}}})";
inline constexpr std::string_view kSweepSpeed =
    R"({"tokens_per_second": 10.5, "tokens_per_second_spread": [10, 11]})";

}  // namespace rwkv::test

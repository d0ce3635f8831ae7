#include "compressor/options/other_names.h"

#include <algorithm>
#include <array>
#include <span>

namespace rwkv::press {
namespace {

using Names = std::array<const char*, 6>;

// Each line is one format. Presets and codecs of one format have different names; each may be used
// for the other.
constexpr Names kFormats[] = {
    {"f32", "fp32", "float32", "float"},
    {"f16", "fp16", "float16", "half"},
    {"i8_row", "int8", "i8", "q8"},
};

struct Meaning {
  std::string_view owner, key, meant;
};
constexpr std::string_view kMatch = "quantize.overrides: [{match: GLOB, codec: CODEC}]";
constexpr Meaning kMeanings[] = {
    {"", "quantize", "stages: [quantize: {codec: CODEC}]"},
    {"", "extends", "preset"},
    {"", "base", "preset"},
    {"low_rank", "k", "low_rank.factor"},
    {"low_rank", "rank", "low_rank.factor"},
    {"low_rank", "ranks", "low_rank.factor"},
    {"quantize", "embedding", kMatch},
    {"quantize", "emb", kMatch},
    {"quantize", "head", kMatch},
    {"quantize", "bits", "quantize.codec"},
    {"quantize", "type", "quantize.codec"},
    {"quantize", "dtype", "quantize.codec"},
    {"quantize", "format", "quantize.codec"},
    {"quantize", "lora", "quantize.lora_codec"},
    {"quantize", "method", "quantize.quantizer"},
    {"cluster_head", "n_clusters", "cluster_head.clusters"},
    {"cluster_head", "k", "cluster_head.clusters"},
    {"cluster_head", "p", "cluster_head.p_min"},
    {"cluster_head", "top_p", "cluster_head.p_min"},
    {"ffn_predictor", "threshold", "ffn_predictor.recall"},
    {"ffn_predictor", "type", "ffn_predictor.kinds"},
    {"ffn_predictor", "lr", "ffn_predictor.learning_rate"},
    {"ffn_predictor", "width", "ffn_predictor.hidden"},
    {"train", "epochs", "train.steps"},
    {"train", "learning_rate", "train.lr"},
    {"train", "batch_size", "train.batch"},
    {"train", "ctx_len", "train.length"},
    {"train", "context", "train.length"},
    {"calibration", "n", "calibration.samples"},
    {"calibration", "tokens", "calibration.length"},
    {"calibration", "text", "--calibration FILE, an option"},
    {"calibration", "texts", "--calibration FILE, an option"},
    {"calibration", "file", "--calibration FILE, an option"},
    {"budget", "bytes", "budget.resident"},
    {"budget", "size", "budget.resident"},
    {"budget", "limit", "budget.resident"},
    {"budget", "mode", "budget.memory"},
    {"budget", "speed", "budget.min_speed"},
};

// The line of a name, without the unused places at its end; none if no line has it.
std::span<const char* const> line_of(std::string_view name) {
  for (const Names& names : kFormats) {
    const auto end = std::find(names.begin(), names.end(), nullptr);
    if (std::find(names.begin(), end, name) != end) {
      return {names.begin(), end};
    }
  }
  return {};
}

}  // namespace

std::vector<const char*> other_names(std::string_view name) {
  const std::span<const char* const> line = line_of(name);
  std::vector<const char*> names(line.begin(), line.end());
  std::erase_if(names, [&](const char* other) { return name == other; });
  return names;
}

bool is_same_format(std::string_view found, std::string_view name) {
  const std::span<const char* const> line = line_of(name);
  return found == name || std::find(line.begin(), line.end(), found) != line.end();
}

std::string_view meant_by(std::string_view owner, std::string_view key) {
  for (const Meaning& meaning : kMeanings) {
    if (owner == meaning.owner && key == meaning.key) {
      return meaning.meant;
    }
  }
  return {};
}

}  // namespace rwkv::press

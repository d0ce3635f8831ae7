// Stage `quantize`: chooses the codec of every matrix. Vectors are always f32. Numbers are rounded
// to the nearest that the codec can hold when the file is packed. An embedding in int8 is packed
// with ln0 applied: rows share large components that ln0 removes, and rounding beside them would
// drown what is left (on a trained v7 with 32 channels, 0.026 mean error against 0.003).
#include "compressor/stages/quantize.h"

#include <fnmatch.h>

#include <array>

#include "compressor/options/option_values.h"
#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

constexpr std::array<OptionSpec, 4> kOptions = {{
    {"codec", "f16", "codec of embedding, head and projections: f32, f16, i8_row or mm8"},
    {"lora_codec", "f16", "codec of the small matrices that v6 and v7 have by themselves"},
    {"min_numbers", "4096",
     "matrices with fewer numbers stay in lora_codec: nothing to gain there"},
    {"overrides", "[]", "list of {match: GLOB, codec: CODEC}; the last match wins"},
}};
constexpr std::array<std::string_view, 2> kOverrideKeys = {"match", "codec"};

struct Override {
  std::string match;
  Codec codec;
};

// The limit that 8-bit optimisers and loaders use too: below it a matrix is a few kB of any model.
constexpr uint64_t kMinNumbers = 4096;

Result<Codec> read_codec(const YAML::Node& node, const std::string& key) {
  std::vector<std::string_view> names;
  for (const CodecTraits& codec : codec_list()) {
    if (codec.codec != Codec::SignRow) {  // for predictors alone
      names.push_back(codec.name);
    }
  }
  if (!node.IsScalar()) {
    return usage_error("{} wants the name of a codec ({})", key, fmt::join(names, ", "));
  }
  const CodecTraits* codec = find_codec(node.Scalar());
  if (!codec || codec->codec == Codec::SignRow) {
    return usage_error("{} is '{}'{}", key, node.Scalar(), suggestion(node.Scalar(), names));
  }
  return codec->codec;
}

// Rows of a clustered head, and neurons that a predictor names.
bool is_read_by_rows(const TensorBinding& binding, const PackPlan& plan) {
  if (binding.role == Role::Head) {
    return plan.config.n_cluster > 0;
  }
  return (binding.role == Role::FfnKey || binding.role == Role::FfnValue) &&
         plan.find(fmt::format("blocks.{}.ffn.predictor.threshold", binding.block)) != nullptr;
}

class QuantizeStage final : public Stage {
 public:
  const char* name() const override { return "quantize"; }
  std::span<const OptionSpec> options() const override { return kOptions; }
  Status configure(const YAML::Node& options) override;
  void emit(YAML::Emitter& out) const override;
  Status plan(PackPlan& plan) const override;

 private:
  Status read_overrides(const YAML::Node& list);
  Codec codec_ = Codec::F16;
  Codec lora_codec_ = Codec::F16;
  uint64_t min_numbers_ = kMinNumbers;
  std::vector<Override> overrides_;
};

Status QuantizeStage::configure(const YAML::Node& options) {
  if (options["codec"]) {
    RWKV_ASSIGN(codec_, read_codec(options["codec"], "quantize.codec"));
  }
  if (options["lora_codec"]) {
    RWKV_ASSIGN(lora_codec_, read_codec(options["lora_codec"], "quantize.lora_codec"));
  }
  RWKV_TRY(OptionValues(options, name()).count("min_numbers", 0, UINT64_MAX, min_numbers_));
  if (options["overrides"]) {
    return read_overrides(options["overrides"]);
  }
  return {};
}

Status QuantizeStage::read_overrides(const YAML::Node& list) {
  if (!list.IsSequence()) {
    return usage_error("quantize.overrides wants a list of {{match: GLOB, codec: CODEC}}");
  }
  for (const YAML::Node& entry : list) {
    if (!entry.IsMap() || !entry["match"] || !entry["match"].IsScalar() || !entry["codec"]) {
      return usage_error("each of quantize.overrides wants the keys match and codec");
    }
    for (const auto& pair : entry) {
      const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "";
      if (key != kOverrideKeys[0] && key != kOverrideKeys[1]) {
        return usage_error("quantize.overrides: unknown key '{}'{}", key,
                           suggestion(key, kOverrideKeys));
      }
    }
    RWKV_ASSIGN(const Codec codec, read_codec(entry["codec"], "quantize.overrides codec"));
    overrides_.push_back({entry["match"].Scalar(), codec});
  }
  return {};
}

void QuantizeStage::emit(YAML::Emitter& out) const {
  out << YAML::BeginMap;
  out << YAML::Key << "codec" << YAML::Value << codec_traits(codec_).name;
  out << YAML::Key << "lora_codec" << YAML::Value << codec_traits(lora_codec_).name;
  out << YAML::Key << "min_numbers" << YAML::Value << min_numbers_;
  if (!overrides_.empty()) {
    out << YAML::Key << "overrides" << YAML::Value << YAML::BeginSeq;
    for (const Override& override : overrides_) {
      out << YAML::Flow << YAML::BeginMap;
      out << YAML::Key << "match" << YAML::Value << YAML::DoubleQuoted << override.match;
      out << YAML::Key << "codec" << YAML::Value << codec_traits(override.codec).name;
      out << YAML::EndMap;
    }
    out << YAML::EndSeq;
  }
  out << YAML::EndMap;
}

Status QuantizeStage::plan(PackPlan& plan) const {
  std::vector<bool> used(overrides_.size());
  for (PlannedTensor& tensor : plan.tensors) {
    const Role role = tensor.binding.role;
    if (role == Role::Vector || role == Role::SignBits) {
      continue;
    }
    const uint64_t numbers = tensor.binding.packed_rows() * tensor.binding.packed_cols();
    const bool may_quantize =
        (role_traits(role).techniques & kQuantize) != 0 && numbers >= min_numbers_;
    tensor.codec = may_quantize ? codec_ : lora_codec_;
    for (size_t i = 0; i < overrides_.size(); ++i) {
      if (::fnmatch(overrides_[i].match.c_str(), tensor.binding.name.c_str(), 0) == 0) {
        tensor.codec = overrides_[i].codec;
        used[i] = true;
      }
    }
    if (role == Role::Embedding) {
      plan.config.ln0_folded = tensor.codec == Codec::I8Row;
    }
    if (tensor.codec == Codec::Mm8 && is_read_by_rows(tensor.binding, plan)) {
      return usage_error(
          "'{}' is to be read row by row, which mm8 does not allow: choose i8_row for it, or leave "
          "cluster_head and ffn_predictor out",
          tensor.binding.name);
    }
    // mm8 shares vectors over a whole matrix and so cannot be read by row.
    if (tensor.codec == Codec::Mm8 &&
        (role == Role::Embedding || tensor.binding.shape.size() != 2)) {
      tensor.codec = Codec::F32;
    }
  }
  for (size_t i = 0; i < overrides_.size(); ++i) {
    if (!used[i]) {
      return usage_error("quantize.overrides: '{}' matches no matrix of this model",
                         overrides_[i].match);
    }
  }
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_quantize_stage() {
  return std::make_unique<QuantizeStage>();
}

}  // namespace rwkv::press

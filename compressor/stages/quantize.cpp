// Stage `quantize`: chooses the codec of every matrix. Vectors are always f32. Numbers are rounded
// to the nearest that the codec can hold when the file is packed. An embedding in int8 is packed
// with ln0 applied: rows share large components that ln0 removes, and rounding beside them would
// drown what is left (on a trained v7 with 32 channels, 0.026 mean error against 0.003).
#include "compressor/stages/quantize.h"

#include <fnmatch.h>

namespace rwkv::press {
namespace {

// The limit that 8-bit optimisers and loaders use too: below it a matrix is a few kB of any model.
constexpr uint64_t kMinNumbers = 4096;

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
  Settings settings() override;
  Status plan(PackPlan& plan) const override;

 private:
  Codec codec_ = Codec::F16;
  Codec lora_codec_ = Codec::F16;
  uint64_t min_numbers_ = kMinNumbers;
  std::vector<Override<Codec>> overrides_;
};

Settings QuantizeStage::settings() {
  using namespace setting;
  return {name(),
          {
              codec("codec", codec_, "of embedding, head, projections, factor pairs and FFN"),
              codec("lora_codec", lora_codec_,
                    "of the lora matrices that v6 and v7 have, and of all under min_numbers"),
              count("min_numbers", min_numbers_, 0, UINT64_MAX,
                    "matrices with fewer elements stay in lora_codec: there is little to gain"),
              overrides<Codec>(
                  "overrides", overrides_,
                  [](Codec& value) { return setting::codec("codec", value, ""); },
                  "the last match wins"),
          }};
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
        tensor.codec = overrides_[i].value;
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

// Stage `quantize`: chooses the codec of every matrix, and the quantizer that chooses its codes.
// Vectors are always f32. Rounding to nearest is left to the packer, which needs one slice in
// memory; quantizers that learn from text run here. An embedding in a lossy codec is packed with
// ln0 applied: rows share large components that ln0 removes, and rounding with them would drown the
// rest (on a trained v7 with 32 channels, 0.026 mean error against 0.003).
#include "compressor/stages/quantize.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>

#include "compressor/quantizers/learnt.h"
#include "compressor/quantizers/needs.h"
#include "compressor/quantizers/quantizer.h"
#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/mixing_vectors.h"
#include "compressor/stages/quantize_model.h"
#include "compressor/stages/selection.h"
#include "formats/arch/access.h"

namespace rwkv::press {
namespace {

// The limit that 8-bit optimisers and loaders use too: smaller matrices are a few kB of any model.
constexpr uint64_t kMinNumbers = 4096;

// Lut codecs have scales for this many columns. Matrices that end within a group are small, and
// stay in int8.
constexpr uint64_t kWholeGroups = 64;

// In the order of MixingRounding.
constexpr std::array<const char*, 4> kMixingRoundings = {"off", "even", "kmeans", "weighted"};

// Gives matrices whose rows are read one by one the form of their codec in rows; refuses codecs
// that pack rows together and have none.
Status fit_access(PackPlan& plan) {
  std::vector<TensorBinding> bindings;
  for (const PlannedTensor& tensor : plan.tensors) {
    bindings.push_back(tensor.binding);
  }
  const ModelAccess access(plan.config, bindings);
  for (PlannedTensor& tensor : plan.tensors) {
    const Access how = access.of(tensor.binding);
    const CodecTraits& codec = codec_traits(tensor.codec);
    const bool is_by_row = how != Access::EveryToken && how != Access::Never;
    if (is_by_row && codec.in_rows != Codec::F32) {
      tensor.codec = codec.in_rows;
    } else if (is_by_row && codec.unit_rows != 1) {
      return usage_error(
          "'{}' is read row by row, but {} packs {} rows together: choose another codec for it",
          tensor.binding.name, codec.name, codec.unit_rows);
    }
  }
  return {};
}

class QuantizeStage final : public Stage {
 public:
  const char* name() const override { return "quantize"; }
  Settings settings() override;
  Status plan(PackPlan& plan) const override;
  bool needs_calibration() const override {
    return selection_.is_on() || mixing() == MixingRounding::Weighted ||
           (!is_auto() && chosen()->learns());
  }
  bool may_use_calibration() const override;
  Needs needs(const StageSubject& subject) const override;
  Status run(Work& work) const override;

 protected:
  Status settle(const YAML::Node& given) override;

 private:
  Status give_codecs(PackPlan& plan) const;
  MixingRounding mixing() const { return static_cast<MixingRounding>(mixing_); }
  // The first choice: what the codecs and the text allow. The others are those of the list.
  bool is_auto() const { return quantizer_ == 0; }
  Status check_learns_from(const Work& work) const;
  // Whether mean squares of inputs are enough.
  bool takes_squares() const {
    return !selection_.is_on() && mixing() != MixingRounding::Weighted &&
           (is_auto() || !chosen()->learns() ||
            std::string_view(quantizer_list()[quantizer_ - 1].name) == "weighted");
  }
  std::unique_ptr<Quantizer> chosen() const { return quantizer_list()[quantizer_ - 1].make(); }
  Codec codec_ = Codec::F16;
  Codec lora_codec_ = Codec::F16;
  uint64_t min_numbers_ = kMinNumbers;
  size_t quantizer_ = 0;
  bool sequential_ = true;
  uint64_t head_groups_ = 0;
  size_t mixing_ = 0;
  uint64_t mixing_values_ = 8;
  Selection selection_;
  std::vector<Override<Codec>> overrides_;
};

Settings QuantizeStage::settings() {
  using namespace setting;
  static const std::vector<const char*> quantizers = [] {
    std::vector<const char*> names = quantizer_names();
    names.insert(names.begin(), "auto");
    return names;
  }();
  std::vector<Setting> settings = {
      codec("codec", codec_, "of embedding, head, projections, factor pairs and FFN"),
      codec("lora_codec", lora_codec_,
            "of the lora matrices that v6 and v7 have, and of all under min_numbers"),
      count("min_numbers", min_numbers_, 0, UINT64_MAX,
            "matrices with fewer elements stay in lora_codec: there is little to gain"),
      choice("quantizer", quantizer_, quantizers,
             "how values become codes; auto: refined for lut codecs if there is text, else "
             "nearest"),
      flag("sequential", sequential_,
           "learn from what the quantized blocks before a block give; false: from the model "
           "as it was, with the moments of the statistics file if there is one")
          .shown_if(!sequential_),
      count("head_groups", head_groups_, 0, UINT64_MAX,
            "groups of similar rows of the head, refined each for the tokens that matter to it; 0: "
            "one for 16 rows, at most 128")
          .shown_if(head_groups_ != 0),
  };
  for (const Setting& each : selection_.settings()) {
    settings.push_back(each);
  }
  const bool rounds_mixing = mixing() != MixingRounding::Off;
  settings.push_back(
      choice("mixing", mixing_, kMixingRoundings,
             "rounds the mixing vectors of time_mix to a few values, which stay f32: "
             "to measure what RWKVQuant does to them")
          .shown_if(rounds_mixing));
  settings.push_back(count("mixing_values", mixing_values_, 2, 256, "of each mixing vector")
                         .shown_if(rounds_mixing));
  settings.push_back(overrides<Codec>(
      "overrides", overrides_, [](Codec& value) { return setting::codec("codec", value, ""); },
      "the last match wins"));
  return {name(), std::move(settings)};
}

Status QuantizeStage::settle(const YAML::Node& /*given*/) {
  RWKV_TRY(selection_.check());
  if (selection_.is_on() && !is_auto()) {
    return usage_error(
        "quantize.quantizer is for all matrices, quantize.selector chooses one of two for each; "
        "remove one of them");
  }
  if (head_groups_ != 0 && !is_auto() && !chosen()->uses_groups()) {
    return usage_error(
        "quantize.head_groups is for quantizer: refined, and quantizer is {}; remove one of them",
        quantizer_list()[quantizer_ - 1].name);
  }
  return {};
}

// As recipes state them.
Status QuantizeStage::give_codecs(PackPlan& plan) const {
  std::vector<bool> used(overrides_.size());
  for (PlannedTensor& tensor : plan.tensors) {
    const Role role = tensor.binding.role;
    if (role == Role::Vector || role == Role::SignBits || role == Role::InitialState) {
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
    // As in ChatRWKV, mm8 is for matrices of two dimensions, and embeddings do not change.
    if (tensor.codec == Codec::Mm8 &&
        (role_traits(role).access == Access::OneRow || tensor.binding.shape.size() != 2)) {
      tensor.codec = Codec::F32;
    }
    tensor.codec = codec_for_columns(tensor.codec, tensor.binding.packed_cols());
    if (role == Role::Embedding) {
      plan.config.ln0_folded = codec_traits(tensor.codec).is_lossy;
    }
  }
  for (size_t i = 0; i < overrides_.size(); ++i) {
    if (!used[i]) {
      return usage_error("quantize.overrides: '{}' matches no matrix of this model",
                         overrides_[i].match);
    }
  }
  return fit_access(plan);
}

Status QuantizeStage::plan(PackPlan& plan) const {
  RWKV_TRY(give_codecs(plan));
  if (selection_.is_on()) {
    selection_.plan(plan);
  } else if (!is_auto()) {
    const std::unique_ptr<Quantizer> quantizer = chosen();
    for (PlannedTensor& tensor : plan.tensors) {
      tensor.codec =
          has_product(tensor.binding) ? quantizer->stored_as(tensor.codec) : tensor.codec;
    }
  }
  return {};
}

bool QuantizeStage::may_use_calibration() const {
  if (!is_auto() || needs_calibration()) {
    return needs_calibration();
  }
  const auto is_lut = [](Codec codec) { return codec_traits(codec).lut != nullptr; };
  return is_lut(codec_) || is_lut(lora_codec_) ||
         std::any_of(overrides_.begin(), overrides_.end(),
                     [&](const Override<Codec>& each) { return is_lut(each.value); });
}

// Nothing where the packer rounds. Else one walk, moved on after each block was changed, and the
// codes of each matrix.
Needs QuantizeStage::needs(const StageSubject& subject) const {
  const bool has_text = subject.tokens > 0 || subject.has_moments;
  const bool learns = needs_calibration() || (is_auto() && may_use_calibration());
  PackPlan after = subject.plan;
  if (!has_text || !learns || !give_codecs(after).ok()) {
    return {};
  }
  Needs own;
  Needs largest;
  uint64_t encoded = 0;
  for (const PlannedTensor& tensor : after.tensors) {
    if (codec_traits(tensor.codec).lut == nullptr) {
      continue;
    }
    const Needs matrix = learnt_needs(tensor.binding.packed_rows(), tensor.binding.packed_cols(),
                                      tensor.binding.layout == Layout::Transposed);
    own.parallel += matrix.parallel;
    largest.memory = std::max(largest.memory, matrix.memory);
    if (tensor.binding.role == Role::Head && sequential_ && !subject.has_moments) {
      const Needs groups = output_groups_needs(
          tensor.binding.packed_rows(), tensor.binding.packed_cols(), subject.tokens, head_groups_);
      own.parallel += groups.parallel;
      largest.memory = std::max(largest.memory, matrix.memory + groups.memory);
    }
    encoded += tensor.encoded_bytes();
  }
  own.disk = encoded;
  if (selection_.is_on()) {
    own.parallel = own.parallel * 3;  // both candidates, and the one chosen
  }
  Needs needs;
  if (!subject.has_moments || sequential_) {
    needs = walk_needs(subject);
    // Observing computes a part of a block.
    needs.parallel = needs.parallel * (sequential_ ? 1.6 : 1);
    const Needs moments = moments_needs(subject);
    needs.parallel += moments.parallel;
    needs.memory += moments.memory;
    needs.leaves_hidden = sequential_;
  }
  needs.memory += largest.memory;
  needs.disk += own.disk;
  needs.parallel += own.parallel;
  return needs;
}

Status QuantizeStage::check_learns_from(const Work& work) const {
  const bool only_squares = work.calibration && has_only_squares(*work.calibration);
  if (only_squares && !takes_squares()) {
    return usage_error(
        "{} needs the moments of inputs, and an imatrix has only their mean squares; choose "
        "quantizer: weighted, or give a text with --calibration",
        is_auto() || selection_.is_on()
            ? std::string("a selector, or rounding of mixing vectors,")
            : fmt::format("quantizer {}", quantizer_list()[quantizer_ - 1].name));
  }
  return {};
}

Status QuantizeStage::run(Work& work) const {
  RWKV_TRY(give_codecs(work.plan));
  RWKV_TRY(check_learns_from(work));
  RWKV_TRY(round_mixing_vectors(work, mixing(), mixing_values_));
  if (selection_.is_on()) {
    return selection_.run(work, sequential_, head_groups_);
  }
  const auto use = [&](const Quantizer& quantizer) {
    return quantize_model(work, {.quantizer = quantizer,
                                 .own = {},
                                 .sequential = sequential_,
                                 .head_groups = head_groups_});
  };
  if (!is_auto()) {
    const std::unique_ptr<Quantizer> quantizer = chosen();
    return quantizer->learns() ? use(*quantizer) : Status();
  }
  if (work.calibration && has_only_squares(*work.calibration) && may_use_calibration()) {
    return use(*make_weighted_quantizer());
  }
  // The network of v7a cannot learn from text yet.
  const bool has_text = work.calibration && work.plan.config.version != Version::V7a;
  return has_text && may_use_calibration() ? use(*make_refined_quantizer()) : Status();
}

}  // namespace

Codec codec_for_columns(Codec codec, uint64_t packed_cols) {
  const bool fits = codec_traits(codec).lut == nullptr || packed_cols % kWholeGroups == 0;
  return fits ? codec : Codec::I8Row;
}

std::unique_ptr<Stage> make_quantize_stage() {
  return std::make_unique<QuantizeStage>();
}

}  // namespace rwkv::press

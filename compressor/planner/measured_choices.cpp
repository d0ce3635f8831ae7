#include "compressor/planner/measured_choices.h"

#include <algorithm>
#include <cmath>

#include "compressor/model/ends.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/planner/learnt_rounding.h"

namespace rwkv::press {
namespace {

constexpr size_t kChoices = 32;
constexpr uint64_t kSeed = 0;  // the planned recipe's own
// Tokens: all of a text of 2048 for blocks of 30 million parameters, fewer for larger ones, but so
// many.
constexpr double kWork = 2048.0 * 30e6;
constexpr double kLeastTokens = 512;
// What a part of the text is extrapolated by, at most.
constexpr double kFarthest = 4;

// The matrix `w` in a setting.
Result<at::Tensor> values_of(const PlannedMatrix& matrix, const at::Tensor& w,
                             const at::Tensor& moments, const MatrixSetting& setting) {
  if (setting.factor == 0) {
    return rounded_for(w, setting.codec, matrix.layout, moments);
  }
  const int64_t rank = rank_of(setting.factor, matrix.rows, matrix.cols);
  const SingleThread one;
  return factorise(w, with_floor(moments), rank, kSeed).product();
}

}  // namespace

int64_t measured_samples(const PlanSubject& subject) {
  double weights = 1;
  for (const PlannedMatrix& matrix : subject.matrices) {
    weights += matrix.block >= 0 ? static_cast<double>(matrix.rows * matrix.cols) : 0;
  }
  const double tokens = std::max(kLeastTokens, kWork / weights);
  const double samples = std::ceil(tokens / static_cast<double>(subject.held_out.size(1)));
  return std::min(subject.held_out.size(0), static_cast<int64_t>(samples));
}

std::string kind_of(const PlannedMatrix& matrix, const MatrixSetting& setting) {
  return matrix.product + (setting.factor > 0 ? " pair" : "");
}

Status MeasuredChoices::begin(bool with_lora) {
  tokens_ = subject_.held_out.narrow(0, 0, samples_).contiguous();
  RWKV_ASSIGN(Walk walk, Walk::begin(subject_.source, subject_.model.config, tokens_));
  dense_ = std::make_unique<Walk>(std::move(walk));
  draw();
  of_all_.resize(drawn_.size(), 1);
  return with_lora ? begin_lora() : Status();
}

// Kinds of matrices in turn, so that each has some; a block and a setting at random.
void MeasuredChoices::draw() {
  std::map<std::string, std::vector<std::pair<size_t, MatrixSetting>>> kinds;
  const Codec finest = subject_.ladder.finest();
  for (size_t i = 0; i < subject_.matrices.size(); ++i) {
    const PlannedMatrix& matrix = subject_.matrices[i];
    if (matrix.block < 0) {
      continue;
    }
    const std::vector<Codec> rungs = subject_.ladder.rungs_for(matrix.packed_cols());
    // The steps of the finer half cost next to nothing.
    for (size_t r = std::max<size_t>(1, rungs.size() / 2); r < rungs.size(); ++r) {
      const MatrixSetting setting{0, rungs[r]};
      kinds[kind_of(matrix, setting)].emplace_back(i, setting);
    }
    for (const double factor : pair_factors(subject_, matrix)) {
      const MatrixSetting setting{factor, finest};
      kinds[kind_of(matrix, setting)].emplace_back(i, setting);
    }
  }
  SplitMixRandom random(subject_.frame.seed);
  for (size_t round = 0; drawn_.size() < kChoices && !kinds.empty(); ++round) {
    for (auto& [kind, choices] : kinds) {
      if (!choices.empty() && drawn_.size() < kChoices) {
        const auto at = static_cast<std::ptrdiff_t>(random.remainder(choices.size()));
        drawn_.push_back({choices[static_cast<size_t>(at)].first,
                          choices[static_cast<size_t>(at)].second, 0, 0});
        choices.erase(choices.begin() + at);
      }
    }
    std::erase_if(kinds, [](const auto& kind) { return kind.second.empty(); });
  }
  std::stable_sort(
      drawn_.begin(), drawn_.end(),
      [](const SampledChoice& a, const SampledChoice& b) { return a.matrix < b.matrix; });
}

Status MeasuredChoices::begin_lora() {
  for (const Codec rung : subject_.ladder.below()) {
    RWKV_ASSIGN(auto edited, with_lora_in(subject_, rung));
    if (edited == nullptr) {
      return {};  // there are none
    }
    RWKV_ASSIGN(Walk walk, Walk::begin(*edited, subject_.model.config, tokens_));
    lora_.push_back({std::move(walk), edited.get()});
    lora_sources_.push_back(std::move(edited));
  }
  return {};
}

bool MeasuredChoices::takes(size_t matrix) const {
  return std::any_of(drawn_.begin(), drawn_.end(),
                     [&](const SampledChoice& choice) { return choice.matrix == matrix; });
}

// The block with the change, from where the dense model is. What a part of the tokens loses is
// extrapolated as their estimates differ.
Status MeasuredChoices::start(size_t choice, BlockVisit& here, const ProductSeen& seen) {
  const MatrixSetting& setting = drawn_[choice].setting;
  const PlannedMatrix& matrix = subject_.matrices[drawn_[choice].matrix];
  at::Tensor& member = here.block.linears.at(matrix.product).dense;
  const at::Tensor own = member;
  RWKV_ASSIGN(member, values_of(matrix, own, here.moments.at(matrix.product), setting));
  const int64_t n = tokens_.numel();
  if (n < seen.inputs.size(0)) {
    const auto distance = setting.factor > 0 ? joint_distance : rounding_distance;
    const at::Tensor change = member - own;
    const ProductSeen own_part{seen.inputs.narrow(0, 0, n), seen.gradients.narrow(0, 0, n)};
    const double part = distance(own_part, change, Tail::Cut);
    const double all = distance(seen, change, Tail::Cut);
    of_all_[choice] = part > 0 ? std::clamp(all / part, 1 / kFarthest, kFarthest) : 1;
  }
  Variant variant{*dense_, nullptr};
  variant.walk.advance(here.block, {});
  begun_.emplace(choice, std::move(variant));
  member = own;
  return {};
}

Status MeasuredChoices::pass(BlockVisit& here, size_t first, size_t end,
                             const std::map<std::string, ProductSeen>& seen) {
  for (auto& [choice, variant] : begun_) {
    variant.walk.advance(here.block, {});
  }
  for (Variant& variant : lora_) {
    RWKV_ASSIGN(const auto own, Block::load(*variant.source, subject_.model.config, here.index));
    variant.walk.advance(*own, {});
  }
  for (size_t i = 0; i < drawn_.size(); ++i) {
    if (drawn_[i].matrix >= first && drawn_[i].matrix < end) {
      RWKV_TRY(start(i, here, seen.at(subject_.matrices[drawn_[i].matrix].product)));
    }
  }
  dense_->advance(here.block, {});
  return {};
}

// Where the next token is known.
Result<at::Tensor> MeasuredChoices::input_of_head(const Walk& walk) const {
  const at::Tensor hidden = walk.hidden();
  const int64_t n = hidden.size(1);
  const int64_t length = tokens_.size(1);
  return head_input(subject_.source,
                    hidden.view({-1, length, n}).narrow(1, 0, length - 1).reshape({-1, n}));
}

Status MeasuredChoices::finish(const at::Tensor& head) {
  RWKV_ASSIGN(const at::Tensor z, input_of_head(*dense_));
  std::vector<at::Tensor> others;
  for (const auto& [choice, variant] : begun_) {
    RWKV_ASSIGN(at::Tensor other, input_of_head(variant.walk));
    others.push_back(std::move(other));
  }
  for (const Variant& variant : lora_) {
    RWKV_ASSIGN(at::Tensor other, input_of_head(variant.walk));
    others.push_back(std::move(other));
  }
  const std::vector<double> distances = head_distances(z, head, others, head);
  for (size_t i = 0; i < drawn_.size(); ++i) {
    drawn_[i].measured = distances[i] * of_all_[i];
  }
  lora_losses_.assign(distances.begin() + static_cast<std::ptrdiff_t>(drawn_.size()),
                      distances.end());
  return {};
}

}  // namespace rwkv::press

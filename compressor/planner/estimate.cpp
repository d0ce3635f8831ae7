#include "compressor/planner/estimate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <optional>

#include "compressor/calibrate/output_errors.h"
#include "compressor/calibrate/sensitivity.h"
#include "compressor/model/ends.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/planner/learnt_rounding.h"
#include "compressor/planner/scales.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {
namespace {

constexpr size_t kSamples = 32;  // choices that are measured from end to end
constexpr uint64_t kSeed = 0;    // the planned recipe's own

// A changed model on its way through the blocks, next to the dense one.
struct Variant {
  Walk walk;
  /// Its own model: one whose lora matrices changed. Null: the dense one, but for one matrix.
  const TensorSource* source = nullptr;
  double kl = 0;
};

class Estimator {
 public:
  Estimator(const PlanSubject& subject, const CurveOptions& options, Curves& curves)
      : subject_(subject), options_(options), curves_(curves), config_(subject.model.config) {}

  Status run();

 private:
  Status begin();
  void draw_samples();
  Status start_lora();
  Status visit(BlockVisit& here, Walk& held);
  Status estimate(size_t index, const at::Tensor& w, const at::Tensor& moments,
                  const ProductSeen& seen, const Factors& whole);
  std::vector<Factors> pairs_of(const BlockVisit& here, size_t first, size_t end) const;
  Status estimate_embedding();
  Status estimate_head(const at::Tensor& hidden);
  Status start_samples(size_t index, BlockVisit& here, const at::Tensor& moments,
                       const Walk& before);
  Result<at::Tensor> values_of(size_t index, const at::Tensor& w, const at::Tensor& moments,
                               const MatrixSetting& setting) const;
  std::vector<Variant*> variants();
  Status advance(Variant& variant, const Block& dense, int64_t index) const;
  Status finish(const Walk& held);
  void scale();

  const PlanSubject& subject_;
  const CurveOptions& options_;
  Curves& curves_;
  const ModelConfig& config_;
  at::Tensor tokens_;
  at::Tensor z_;  ///< what the dense head sees of them, where the next token is known
  Sensitivity sensitivity_;
  at::Tensor head_;
  std::vector<SampledChoice> drawn_;
  std::map<size_t, Variant> sampled_;  ///< by index in drawn_
  std::vector<std::unique_ptr<EditedSource>> lora_sources_;
  std::vector<Variant> lora_;
};

// What shares a scale: the product, as a pair or rounded.
std::string group_of(const PlannedMatrix& matrix, const MatrixSetting& setting) {
  return matrix.product + (setting.factor > 0 ? " pair" : "");
}

// Of the pairs that a matrix may be, the largest first.
std::vector<int64_t> ranks_of(const PlanSubject& subject, const PlannedMatrix& matrix) {
  std::vector<int64_t> ranks;
  for (const double factor : pair_factors(subject, matrix)) {
    ranks.push_back(rank_of(factor, matrix.rows, matrix.cols));
  }
  return ranks;
}

Status Estimator::begin() {
  tokens_ = subject_.held_out;
  RWKV_ASSIGN(sensitivity_,
              measure_sensitivity(subject_.source, config_, tokens_, kSeed,
                                  [&](double share) { subject_.progress("gradients", share); }));
  RWKV_ASSIGN(head_, load_named(subject_.source, "head.weight"));
  draw_samples();
  return start_lora();
}

// Kinds of matrices in turn, so that each has some; a block and a setting at random.
void Estimator::draw_samples() {
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
      kinds[group_of(matrix, setting)].emplace_back(i, setting);
    }
    for (const double factor : pair_factors(subject_, matrix)) {
      const MatrixSetting setting{factor, finest};
      kinds[group_of(matrix, setting)].emplace_back(i, setting);
    }
  }
  SplitMixRandom random(subject_.frame.seed);
  for (size_t round = 0; drawn_.size() < kSamples && !kinds.empty(); ++round) {
    for (auto& [kind, choices] : kinds) {
      if (!choices.empty() && drawn_.size() < kSamples) {
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

Status Estimator::start_lora() {
  if (!curves_.lora.empty()) {
    return {};
  }
  for (const Codec rung : subject_.ladder.below()) {
    RWKV_ASSIGN(auto edited, with_lora_in(subject_, rung));
    if (edited == nullptr) {
      return {};  // there are none
    }
    RWKV_ASSIGN(Walk walk, Walk::begin(*edited, config_, tokens_));
    lora_.push_back({std::move(walk), edited.get()});
    lora_sources_.push_back(std::move(edited));
  }
  return {};
}

Result<at::Tensor> Estimator::values_of(size_t index, const at::Tensor& w,
                                        const at::Tensor& moments,
                                        const MatrixSetting& setting) const {
  const PlannedMatrix& matrix = subject_.matrices[index];
  if (setting.factor == 0) {
    return rounded_for(w, setting.codec, matrix.layout, moments);
  }
  const int64_t rank = rank_of(setting.factor, matrix.rows, matrix.cols);
  const SingleThread one;
  return factorise(w, with_floor(moments), rank, kSeed).product();
}

// The largest pair of each matrix of a block that may be one, a matrix on each thread.
std::vector<Factors> Estimator::pairs_of(const BlockVisit& here, size_t first, size_t end) const {
  std::vector<Factors> pairs(end - first);
  in_tiles(static_cast<int64_t>(end - first), 1, [&](int64_t at, int64_t /*end*/) {
    const PlannedMatrix& matrix = subject_.matrices[first + static_cast<size_t>(at)];
    const std::vector<int64_t> ranks = ranks_of(subject_, matrix);
    if (!ranks.empty()) {
      pairs[static_cast<size_t>(at)] =
          factorise(here.block.linears.at(matrix.product).dense,
                    with_floor(here.moments.at(matrix.product)), ranks.front(), kSeed);
    }
  });
  return pairs;
}

// The lut codec of these whose codes are learnt: the coarsest but one. Nothing if there is none.
std::optional<Codec> learnt_of(const std::vector<Codec>& rungs) {
  std::vector<Codec> luts;
  std::copy_if(rungs.begin(), rungs.end(), std::back_inserter(luts),
               [](Codec rung) { return codec_traits(rung).lut != nullptr; });
  if (luts.empty()) {
    return {};
  }
  return luts.size() > 1 ? luts[luts.size() - 2] : luts.front();
}

// The losses of all settings of a matrix, before they are scaled. Learning codes takes most of the
// time of a plan, and gains nearly the same share in every lut codec: so they are learnt in one.
Status Estimator::estimate(size_t index, const at::Tensor& w, const at::Tensor& moments,
                           const ProductSeen& seen, const Factors& whole) {
  const PlannedMatrix& matrix = subject_.matrices[index];
  const std::vector<Codec> rungs = subject_.ladder.rungs_for(matrix.packed_cols());
  std::map<Codec, double> nearest;
  for (const Codec rung : rungs) {
    if (rung != subject_.ladder.finest()) {
      nearest[rung] = rounding_distance(seen, rounded(w, rung, matrix.layout) - w);
    }
  }
  double gain = 1;
  if (const auto learnt = learnt_of(rungs); learnt && nearest[*learnt] > 0) {
    RWKV_ASSIGN(const at::Tensor values, rounded_for(w, *learnt, matrix.layout, moments));
    gain = rounding_distance(seen, values - w) / nearest[*learnt];
  }
  std::vector<double> dense;
  for (const Codec rung : rungs) {
    if (rung != subject_.ladder.finest()) {
      dense.push_back(nearest[rung] * (codec_traits(rung).lut != nullptr ? gain : 1));
    }
  }
  const std::vector<int64_t> ranks = ranks_of(subject_, matrix);
  const auto pairs = ranks.empty() ? std::vector<double>() : pair_distances(seen, w, whole, ranks);
  curves_.matrices.push_back(points_from(subject_, matrix, dense, pairs));
  return {};
}

Status Estimator::estimate_embedding() {
  RWKV_ASSIGN(const at::Tensor x, embed(subject_.source, config_, tokens_));
  const at::Tensor flat = x.reshape({-1, x.size(2)});
  const PlannedMatrix& matrix = subject_.matrices[curves_.matrices.size()];
  std::vector<double> dense;
  for (const Codec rung : subject_.ladder.rungs_for(matrix.packed_cols())) {
    if (rung != subject_.ladder.finest()) {
      const at::Tensor change = rounded(flat, rung, Layout::AsIs) - flat;
      dense.push_back(input_distance(sensitivity_.embedding, change));
    }
  }
  curves_.matrices.push_back(points_from(subject_, matrix, dense, {}));
  return {};
}

Status Estimator::estimate_head(const at::Tensor& hidden) {
  const size_t index = curves_.matrices.size();
  const PlannedMatrix& matrix = subject_.matrices[index];
  RWKV_ASSIGN(const at::Tensor learnt_from, head_input(subject_.source, hidden));
  LearntRounding learnt(subject_.ladder.rungs());
  if (learnt.learns()) {
    MomentSum sum;
    sum.add(learnt_from);
    RWKV_ASSIGN(const OutputGroups groups, OutputGroups::of_head(learnt_from, head_, kSeed));
    RWKV_TRY(learnt.learn(index, matrix, head_, sum.mean(), &groups));
  }
  std::vector<double> dense;
  for (const Codec rung : subject_.ladder.rungs_for(matrix.packed_cols())) {
    if (rung != subject_.ladder.finest()) {
      const at::Tensor values = learnt.dense(index, matrix, head_, rung);
      dense.push_back(head_distances(z_, head_, {z_}, values).front());
    }
  }
  curves_.matrices.push_back(points_from(subject_, matrix, dense, {}));
  return {};
}

std::vector<Variant*> Estimator::variants() {
  std::vector<Variant*> all;
  for (auto& [at, variant] : sampled_) {
    all.push_back(&variant);
  }
  for (Variant& variant : lora_) {
    all.push_back(&variant);
  }
  return all;
}

Status Estimator::advance(Variant& variant, const Block& dense, int64_t index) const {
  if (variant.source == nullptr) {
    variant.walk.advance(dense, {});
    return {};
  }
  RWKV_ASSIGN(const auto own, Block::load(*variant.source, config_, index));
  variant.walk.advance(*own, {});
  return {};
}

// Starts the drawn choices of a matrix: its block with the change, from where the dense model is.
Status Estimator::start_samples(size_t index, BlockVisit& here, const at::Tensor& moments,
                                const Walk& before) {
  at::Tensor& member = here.block.linears.at(subject_.matrices[index].product).dense;
  const at::Tensor own = member;
  for (size_t i = 0; i < drawn_.size(); ++i) {
    if (drawn_[i].matrix == index) {
      RWKV_ASSIGN(member, values_of(index, own, moments, drawn_[i].setting));
      sampled_[i] = {before, nullptr};
      sampled_[i].walk.advance(here.block, {});
      member = own;
    }
  }
  return {};
}

Status Estimator::visit(BlockVisit& here, Walk& held) {
  for (Variant* variant : variants()) {
    RWKV_TRY(advance(*variant, here.block, here.index));
  }
  size_t first = 0;
  while (subject_.matrices[first].block != here.index) {
    ++first;
  }
  size_t end = first;
  Walk::Products products;
  for (; end < subject_.matrices.size() && subject_.matrices[end].block == here.index; ++end) {
    products.push_back(subject_.matrices[end].product);
  }
  const Walk before = held;
  std::map<std::string, std::vector<at::Tensor>> inputs;
  held.advance(
      here.block,
      [&](const std::string& product, const at::Tensor& x) { inputs[product].push_back(x); },
      products);
  const bool is_new = curves_.matrices.size() < end;
  const std::vector<Factors> pairs = is_new ? pairs_of(here, first, end) : std::vector<Factors>();
  for (size_t i = first; i < end; ++i) {
    const std::string& product = subject_.matrices[i].product;
    const at::Tensor& moments = here.moments.at(product);
    if (curves_.matrices.size() == i) {
      const ProductSeen seen{at::cat(inputs.at(product), 0),
                             sensitivity_.products[static_cast<size_t>(here.index)].at(product)};
      RWKV_TRY(estimate(i, here.block.linears.at(product).dense, moments, seen, pairs[i - first]));
    }
    RWKV_TRY(start_samples(i, here, moments, before));
  }
  sensitivity_.products[static_cast<size_t>(here.index)].clear();
  return is_new ? options_.save(curves_) : Status();
}

// The distances of all that was changed.
Status Estimator::finish(const Walk& held) {
  const int64_t length = tokens_.size(1);
  const auto predicting = [&](const Walk& walk) -> Result<at::Tensor> {
    const at::Tensor hidden = walk.hidden().view({-1, length, head_.size(1)});
    return head_input(subject_.source,
                      hidden.narrow(1, 0, length - 1).reshape({-1, head_.size(1)}));
  };
  RWKV_ASSIGN(z_, predicting(held));
  curves_.dense =
      cross_entropy(z_, head_, tokens_.narrow(1, 1, length - 1).reshape({-1}).contiguous());
  const std::vector<Variant*> all = variants();
  std::vector<at::Tensor> others;
  for (const Variant* variant : all) {
    RWKV_ASSIGN(at::Tensor z, predicting(variant->walk));
    others.push_back(std::move(z));
  }
  const std::vector<double> distances = head_distances(z_, head_, others, head_);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i]->kl = distances[i];
  }
  if (curves_.lora.empty()) {
    curves_.lora = without_lora_losses(subject_);
    for (size_t i = 0; i < lora_.size(); ++i) {
      const double loss = at_least_lossy(lora_[i].kl);
      curves_.lora[i + 1].loss = loss;
      curves_.lora[i + 1].nats = loss;
    }
  }
  return {};
}

// Each kind gets its factor.
void Estimator::scale() {
  Scales scales;
  for (size_t i = 0; i < drawn_.size(); ++i) {
    SampledChoice& choice = drawn_[i];
    choice.estimated = loss_of(curves_.matrices[choice.matrix], choice.setting);
    choice.measured = sampled_.at(i).kl;
    scales.add(group_of(subject_.matrices[choice.matrix], choice.setting), choice.estimated,
               choice.measured);
  }
  for (size_t i = 0; i < subject_.matrices.size(); ++i) {
    if (subject_.matrices[i].role != Role::Head) {  // whose losses were measured
      rescale(subject_, i, curves_.matrices[i], [&](const MatrixSetting& setting) {
        return scales.of(group_of(subject_.matrices[i], setting));
      });
    }
  }
  curves_.samples = drawn_;
}

Status Estimator::run() {
  const at::NoGradGuard no_grad;
  RWKV_TRY(begin());
  RWKV_ASSIGN(Walk held, Walk::begin(subject_.source, config_, tokens_));
  if (curves_.matrices.empty()) {
    RWKV_TRY(estimate_embedding());
  }
  const BlockWalk walk{
      .source = subject_.source,
      .config = config_,
      .calibration = &subject_.calibration,
      .products =
          [&](int64_t block) {
            std::vector<std::string> products;
            for (const PlannedMatrix& matrix : subject_.matrices) {
              if (matrix.block == block) {
                products.push_back(matrix.product);
              }
            }
            return products;
          },
      .progress = [&](double share) { subject_.progress("curves of matrices", share); }};
  RWKV_ASSIGN(const at::Tensor hidden,
              walk.run([&](BlockVisit& here) { return visit(here, held); }));
  RWKV_TRY(finish(held));
  if (curves_.matrices.size() < subject_.matrices.size()) {
    RWKV_TRY(estimate_head(hidden));
  }
  scale();
  return options_.save(curves_);
}

// All matrices alike: the sum of their losses.
void add_uniform(const PlanSubject& subject, Curves& curves) {
  for (UniformPoint point : uniform_points(subject)) {
    const auto settings = uniform_settings(subject.matrices, point);
    for (size_t i = 0; i < settings.size(); ++i) {
      point.loss += loss_of(curves.matrices[i], settings[i]);
    }
    point.nats = point.loss;
    curves.uniform.push_back(point);
  }
}

}  // namespace

Result<Curves> estimate_curves(const PlanSubject& subject, const CurveOptions& options,
                               Curves begun) {
  Curves curves = std::move(begun);
  curves.method = {.whitened = true, .diagonal = false};
  if (curves.samples.empty()) {
    RWKV_TRY(Estimator(subject, options, curves).run());
  }
  RWKV_TRY(measure_packed_curves(subject, options, curves));
  if (curves.uniform.empty()) {
    add_uniform(subject, curves);
    RWKV_TRY(options.save(curves));
  }
  return curves;
}

}  // namespace rwkv::press

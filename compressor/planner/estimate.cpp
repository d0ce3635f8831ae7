#include "compressor/planner/estimate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>

#include "compressor/calibrate/output_errors.h"
#include "compressor/calibrate/sensitivity.h"
#include "compressor/model/ends.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/planner/estimate_head.h"
#include "compressor/planner/estimate_predictors.h"
#include "compressor/planner/learnt_rounding.h"
#include "compressor/planner/measured_choices.h"
#include "compressor/planner/sampled_outputs.h"
#include "compressor/planner/scales.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kSeed = 0;  // the planned recipe's own
// Outputs of a product that stand for all (sampled_outputs.h).
constexpr int64_t kLeastOutputs = 256;
constexpr int64_t kPartOfOutputs = 4;
constexpr int64_t kGroup = 64;  // outputs of a neuron that lut codecs give one scale
// Codes of ffn.value, whose inputs are many, are learnt in so many blocks.
constexpr int64_t kLearntBlocks = 6;

class Estimator {
 public:
  Estimator(const PlanSubject& subject, const CurveOptions& options, Curves& curves)
      : subject_(subject),
        options_(options),
        curves_(curves),
        config_(subject.model.config),
        measured_(subject, measured_samples(subject)),
        predictors_(subject, options.sparse),
        step_((static_cast<int64_t>(config_.n_layer) + kLearntBlocks - 1) / kLearntBlocks) {}

  Status run();

 private:
  Status begin();
  Status visit(BlockVisit& here, Walk& held);
  Status estimate(size_t index, const at::Tensor& w, const at::Tensor& moments,
                  const ProductSeen& seen, const Factors& whole);
  Result<double> gain_of(size_t index, const SampledOutputs& sample, const at::Tensor& w,
                         const at::Tensor& moments);
  std::vector<Factors> pairs_of(const BlockVisit& here, size_t first, size_t end) const;
  Status estimate_embedding();
  Status estimate_head(const at::Tensor& hidden);
  Status see_end(const Walk& held);
  bool learns(const PlannedMatrix& matrix) const;
  bool lacks_gain(const PlannedMatrix& matrix) const;
  std::vector<std::string> with_moments(int64_t block) const;
  bool estimates_rows() const { return curves_.ffn.empty() && (options_.sparse || options_.speed); }
  void scale();

  const PlanSubject& subject_;
  const CurveOptions& options_;
  Curves& curves_;
  const ModelConfig& config_;
  at::Tensor z_;  ///< what the dense head sees, where the next token is known
  Sensitivity sensitivity_;
  at::Tensor head_;
  MeasuredChoices measured_;
  std::map<std::string, double> gains_;  ///< of learnt codes over rounding to nearest, by product
  PredictorEstimate predictors_;
  std::vector<at::Tensor> learnt_from_;  ///< inputs of ffn.key of the block that is visited
  int64_t step_;                         ///< between blocks in which codes of ffn.value are learnt
};

// Of the pairs that a matrix may be, the largest first.
std::vector<int64_t> ranks_of(const PlanSubject& subject, const PlannedMatrix& matrix) {
  std::vector<int64_t> ranks;
  for (const double factor : pair_factors(subject, matrix)) {
    ranks.push_back(rank_of(factor, matrix.rows, matrix.cols));
  }
  return ranks;
}

Status Estimator::begin() {
  RWKV_ASSIGN(sensitivity_,
              measure_sensitivity(subject_.source, config_, subject_.held_out, kSeed,
                                  [&](double share) { subject_.progress("gradients", share); }));
  RWKV_ASSIGN(head_, load_named(subject_.source, "head.weight"));
  return measured_.begin(curves_.lora.empty());
}

// Moments of very many inputs take long, and so does learning from them.
bool Estimator::learns(const PlannedMatrix& matrix) const {
  return matrix.layout != Layout::Transposed || matrix.block % step_ == 0;
}

// A block that is estimated after an interruption needs the gain of one before it.
bool Estimator::lacks_gain(const PlannedMatrix& matrix) const {
  const size_t next = curves_.matrices.size();
  if (matrix.layout != Layout::Transposed || !learns(matrix) || next == subject_.matrices.size()) {
    return false;
  }
  const int64_t block = subject_.matrices[next].block;
  return block > matrix.block && block < matrix.block + step_;
}

std::vector<std::string> Estimator::with_moments(int64_t block) const {
  std::vector<std::string> products;
  for (size_t i = 0; i < subject_.matrices.size(); ++i) {
    const PlannedMatrix& matrix = subject_.matrices[i];
    if (matrix.block == block && (matrix.may_pair || learns(matrix) || measured_.takes(i))) {
      products.push_back(matrix.product);
    }
  }
  return products;
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

// The change of a product's sampled outputs in a codec.
at::Tensor change_in(Codec rung, const at::Tensor& w, Layout layout, const SampledOutputs& sample) {
  if (layout == Layout::Transposed && codec_traits(rung).lut == nullptr) {
    // The scale of a packed row is that of all outputs.
    return sample.of(rounded(w, rung, layout) - w);
  }
  const at::Tensor some = sample.of(w);
  return rounded(some, rung, layout) - some;
}

// What learnt codes lose of what rounding to nearest loses. Learning takes long, and gains nearly
// the same share in every lut codec: so codes are learnt in one. Where they are not learnt, the
// share is that of the last block where they were.
Result<double> Estimator::gain_of(size_t index, const SampledOutputs& sample, const at::Tensor& w,
                                  const at::Tensor& moments) {
  const PlannedMatrix& matrix = subject_.matrices[index];
  const auto learnt = learnt_of(subject_.ladder.rungs_for(matrix.packed_cols()));
  if (!learnt) {
    return 1.0;
  }
  if (learns(matrix)) {
    const double nearest =
        rounding_distance(sample.seen, change_in(*learnt, w, matrix.layout, sample), Tail::Cut);
    const at::Tensor some = sample.of(w);
    RWKV_ASSIGN(const at::Tensor values, rounded_for(some, *learnt, matrix.layout, moments));
    gains_[matrix.product] =
        nearest > 0 ? rounding_distance(sample.seen, values - some, Tail::Cut) / nearest : 1;
  }
  return gains_.at(matrix.product);
}

// The losses of all settings of a matrix, before they are scaled.
Status Estimator::estimate(size_t index, const at::Tensor& w, const at::Tensor& moments,
                           const ProductSeen& seen, const Factors& whole) {
  const PlannedMatrix& matrix = subject_.matrices[index];
  const SampledOutputs sample =
      sample_outputs(seen, w, matrix.layout == Layout::Transposed ? kGroup : 1,
                     std::max(kLeastOutputs, w.size(0) / kPartOfOutputs));
  RWKV_ASSIGN(const double gain, gain_of(index, sample, w, moments));
  if (curves_.matrices.size() > index) {
    return {};
  }
  std::vector<double> dense;
  for (const Codec rung : subject_.ladder.rungs_for(matrix.packed_cols())) {
    if (rung != subject_.ladder.finest()) {
      const double nearest =
          rounding_distance(sample.seen, change_in(rung, w, matrix.layout, sample), Tail::Cut);
      dense.push_back(nearest * (codec_traits(rung).lut != nullptr ? gain : 1));
    }
  }
  const std::vector<int64_t> ranks = ranks_of(subject_, matrix);
  const auto pairs =
      ranks.empty() ? std::vector<double>() : pair_distances(seen, w, whole, ranks, Tail::Cut);
  curves_.matrices.push_back(points_from(subject_, matrix, dense, pairs));
  return {};
}

Status Estimator::estimate_embedding() {
  RWKV_ASSIGN(const at::Tensor x, embed(subject_.source, config_, subject_.held_out));
  const at::Tensor flat = x.reshape({-1, x.size(2)});
  const PlannedMatrix& matrix = subject_.matrices[curves_.matrices.size()];
  std::vector<double> dense;
  for (const Codec rung : subject_.ladder.rungs_for(matrix.packed_cols())) {
    if (rung != subject_.ladder.finest()) {
      const at::Tensor change = rounded(flat, rung, Layout::AsIs) - flat;
      dense.push_back(input_distance(sensitivity_.embedding, change, Tail::Cut));
    }
  }
  curves_.matrices.push_back(points_from(subject_, matrix, dense, {}));
  return {};
}

// All that the head decides.
Status Estimator::estimate_head(const at::Tensor& hidden) {
  const size_t index = subject_.matrices.size() - 1;
  HeadText text{head_, z_, {}};
  RWKV_ASSIGN(text.learnt_from, head_input(subject_.source, hidden));
  if (curves_.matrices.size() == index) {
    RWKV_ASSIGN(const auto dense, estimate_head_rungs(subject_, subject_.matrices[index], text));
    curves_.matrices.push_back(points_from(subject_, subject_.matrices[index], dense, {}));
  }
  if (estimates_rows()) {
    curves_.head = {RowsPoint{}};
    if (options_.sparse) {
      RWKV_ASSIGN(curves_.head, estimate_clusters(subject_, text));
    }
    curves_.ffn = predictors_.points();
  }
  return {};
}

// `held` is the dense model over the text of losses.
Status Estimator::visit(BlockVisit& here, Walk& held) {
  size_t first = 0;
  while (subject_.matrices[first].block != here.index) {
    ++first;
  }
  size_t end = first;
  Walk::Products products;
  for (; end < subject_.matrices.size() && subject_.matrices[end].block == here.index; ++end) {
    products.push_back(subject_.matrices[end].product);
  }
  std::map<std::string, std::vector<at::Tensor>> inputs;
  held.advance(
      here.block,
      [&](const std::string& product, const at::Tensor& x) { inputs[product].push_back(x); },
      products);
  auto& gradients = sensitivity_.products[static_cast<size_t>(here.index)];
  std::map<std::string, ProductSeen> seen;
  for (const std::string& product : products) {
    seen[product] = {at::cat(inputs.at(product), 0), gradients.at(product)};
  }
  const bool is_new = curves_.matrices.size() < end;
  const std::vector<Factors> pairs =
      is_new ? pairs_of(here, first, end) : std::vector<Factors>(end - first);
  for (size_t i = first; i < end; ++i) {
    const PlannedMatrix& matrix = subject_.matrices[i];
    if (is_new || lacks_gain(matrix)) {
      const auto moments = here.moments.find(matrix.product);
      RWKV_TRY(estimate(i, here.block.linears.at(matrix.product).dense,
                        moments == here.moments.end() ? at::Tensor() : moments->second,
                        seen.at(matrix.product), pairs[i - first]));
    }
  }
  RWKV_TRY(measured_.pass(here, first, end, seen));
  if (estimates_rows() && predictors_.takes(here.index)) {
    RWKV_TRY(predictors_.add(
        here.index, here.block,
        {at::cat(learnt_from_, 0), seen.at("ffn.key").inputs, seen.at("ffn.value").gradients}));
  }
  learnt_from_.clear();
  gradients.clear();
  return is_new ? options_.save(curves_) : Status();
}

// What the head sees, and what was measured along the way.
Status Estimator::see_end(const Walk& held) {
  const int64_t length = subject_.held_out.size(1);
  const at::Tensor hidden = held.hidden().view({-1, length, head_.size(1)});
  RWKV_ASSIGN(z_, head_input(subject_.source,
                             hidden.narrow(1, 0, length - 1).reshape({-1, head_.size(1)})));
  curves_.dense = cross_entropy(
      z_, head_, subject_.held_out.narrow(1, 1, length - 1).reshape({-1}).contiguous());
  RWKV_TRY(measured_.finish(head_));
  if (curves_.lora.empty()) {
    curves_.lora = without_lora_losses(subject_);
    for (size_t i = 0; i < measured_.lora().size(); ++i) {
      const double loss = at_least_lossy(measured_.lora()[i]);
      curves_.lora[i + 1].loss = loss;
      curves_.lora[i + 1].nats = loss;
    }
  }
  return {};
}

// Each kind gets its factor.
void Estimator::scale() {
  Scales scales;
  std::vector<SampledChoice> drawn = measured_.drawn();
  for (SampledChoice& choice : drawn) {
    choice.estimated = loss_of(curves_.matrices[choice.matrix], choice.setting);
    scales.add(kind_of(subject_.matrices[choice.matrix], choice.setting), choice.estimated,
               choice.measured);
  }
  for (size_t i = 0; i < subject_.matrices.size(); ++i) {
    if (subject_.matrices[i].role != Role::Head) {  // whose losses were measured
      rescale(subject_, i, curves_.matrices[i], [&](const MatrixSetting& setting) {
        return scales.of(kind_of(subject_.matrices[i], setting));
      });
    }
  }
  // Of predictors no choice is measured: what all kinds have in common.
  for (size_t i = 1; i < curves_.ffn.size(); ++i) {
    RowsPoint& point = curves_.ffn[i];
    point.loss = at_least_lossy(point.loss * scales.of("ffn predictor"));
    point.nats = point.loss;
  }
  curves_.samples = drawn;
}

Status Estimator::run() {
  const at::NoGradGuard no_grad;
  RWKV_TRY(begin());
  RWKV_ASSIGN(Walk held, Walk::begin(subject_.source, config_, subject_.held_out));
  if (curves_.matrices.empty()) {
    RWKV_TRY(estimate_embedding());
  }
  BlockWalk walk{.source = subject_.source,
                 .config = config_,
                 .calibration = &subject_.calibration,
                 .products = [&](int64_t block) { return with_moments(block); },
                 .progress = [&](double share) { subject_.progress("curves of matrices", share); }};
  if (estimates_rows()) {
    walk.observe = [&](const std::string& /*product*/, const at::Tensor& x) {
      learnt_from_.push_back(x);
    };
    walk.observed = {"ffn.key"};
  }
  RWKV_ASSIGN(const at::Tensor hidden,
              walk.run([&](BlockVisit& here) { return visit(here, held); }));
  RWKV_TRY(see_end(held));
  RWKV_TRY(estimate_head(hidden));
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
  RWKV_TRY(measure_speed_curve(subject, options, curves));
  if (curves.uniform.empty()) {
    add_uniform(subject, curves);
    RWKV_TRY(options.save(curves));
  }
  return curves;
}

}  // namespace rwkv::press

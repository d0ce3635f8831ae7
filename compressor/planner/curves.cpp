#include "compressor/planner/curves.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "compressor/checkpoint/edited_source.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/quantize.h"
#include "formats/arch/access.h"

namespace rwkv::press {
namespace {

// Pairs of square matrices save nothing below 2.
constexpr std::array<double, 9> kFactors = {2.5, 3, 4, 5, 6, 8, 12, 16, 32};
constexpr int64_t kLeastRank = 2;
constexpr std::array<double, 4> kRecalls = {0.95, 0.98, 0.99, 0.999};
constexpr std::array<double, 5> kMasses = {0.9, 0.95, 0.98, 0.99, 0.999};
constexpr double kTrialFactor = 4;  // at which ways to find pairs are compared
constexpr int64_t kWidestDiagonal = 1024;
// Every lossy choice costs at least this, so that the dense model wins whenever it fits.
constexpr double kLeastLoss = 1e-9;
constexpr const char* kScratchName = "/.rwkv-press-plan.gguf";

double at_least(double loss) {
  return std::max(loss, kLeastLoss);
}

std::vector<double> factors_for(const PlanSubject& subject, const PlannedMatrix& matrix) {
  std::vector<double> factors;
  for (const double factor : kFactors) {
    if (subject.has_pairs && matrix.may_pair &&
        rank_of(factor, matrix.rows, matrix.cols) >= kLeastRank) {
      factors.push_back(factor);
    }
  }
  return factors;
}

// The way to find pairs that loses least where every projection is a pair.
PairMethod best_method(const PlanSubject& subject, LossMeter& meter) {
  bool diagonal = subject.model.config.n_embd <= static_cast<uint64_t>(kWidestDiagonal);
  for (const PlannedMatrix& matrix : subject.matrices) {
    diagonal = diagonal && (!matrix.may_pair || matrix.rows == matrix.cols);
  }
  const auto settings =
      uniform_settings(subject.matrices, {kTrialFactor, false, subject.ladder.finest()});
  PairMethod best;
  double least = 0;
  for (const PairMethod& method :
       {PairMethod{true, false}, {false, false}, {true, true}, {false, true}}) {
    if (method.diagonal && !diagonal) {
      continue;
    }
    meter.set_method(method);
    const double loss = meter.loss(settings).kl;
    if (least == 0 || loss < least) {
      least = loss;
      best = method;
    }
  }
  meter.set_method(best);
  return best;
}

// Of the factors of a pair in a lut codec, those that are in it: each adds about the error that the
// dense matrix has in this codec. What int8 costs is little next to the pair itself.
double n_rounded(const PlannedMatrix& matrix, double factor, Codec codec) {
  const auto rank = static_cast<uint64_t>(rank_of(factor, matrix.rows, matrix.cols));
  const bool both = codec_traits(codec).lut != nullptr && codec_for_columns(codec, rank) == codec;
  return both ? 2 : 1;
}

std::vector<MatrixPoint> measure_matrix(const PlanSubject& subject, LossMeter& meter, size_t index,
                                        const std::function<void(double share)>& show) {
  const PlannedMatrix& matrix = subject.matrices[index];
  const Codec finest = subject.ladder.finest();
  std::vector<MatrixPoint> points = {{{0, finest}, 0}};
  for (const Codec rung : subject.ladder.rungs_for(matrix.packed_cols())) {
    if (rung != finest) {
      points.push_back({{0, rung}, at_least(meter.loss_with(index, {0, rung}).kl)});
    }
  }
  const std::vector<MatrixPoint> dense = points;
  const auto factors = factors_for(subject, matrix);
  double measured = 0;
  for (const double factor : factors) {
    // What rounding costs adds up nearly enough with what the pair costs.
    const double loss = at_least(meter.loss_with(index, {factor, finest}).kl);
    for (const MatrixPoint& point : dense) {
      const Codec codec = point.setting.codec;
      points.push_back({{factor, codec}, loss + n_rounded(matrix, factor, codec) * point.loss});
    }
    show(++measured / static_cast<double>(factors.size()));
  }
  return points;
}

Status measure_matrices(const PlanSubject& subject, LossMeter& meter, const CurveOptions& options,
                        Curves& curves) {
  const auto n_matrices = static_cast<double>(subject.matrices.size());
  const auto show = [&](double done) { subject.progress("curves of matrices", done / n_matrices); };
  show(static_cast<double>(curves.matrices.size()));
  meter.loss(lossless_choice(subject).matrices);
  while (curves.matrices.size() < subject.matrices.size()) {
    const size_t i = curves.matrices.size();
    curves.matrices.push_back(measure_matrix(
        subject, meter, i, [&](double share) { show(static_cast<double>(i) + share); }));
    show(static_cast<double>(i + 1));
    RWKV_TRY(options.save(curves));
  }
  return {};
}

void measure_uniform(const PlanSubject& subject, LossMeter& meter, Curves& curves) {
  const Codec finest = subject.ladder.finest();
  const auto add = [&](UniformPoint point) {
    if (point.factor > 0 || point.codec != finest) {
      const TextLoss loss = meter.loss(uniform_settings(subject.matrices, point));
      point.loss = at_least(loss.kl);
      point.nats = loss.nats - curves.dense;
    }
    curves.uniform.push_back(point);
    return point;
  };
  std::vector<UniformPoint> dense;
  for (const Codec rung : subject.ladder.rungs()) {
    dense.push_back(add({0, false, rung}));
  }
  for (const double factor : std::span(kFactors).first(subject.has_pairs ? kFactors.size() : 0)) {
    for (const bool with_output : {false, true}) {
      const UniformPoint pairs = add({factor, with_output, finest});
      for (const UniformPoint& rounded : std::span(dense).subspan(1)) {
        curves.uniform.push_back({factor, with_output, rounded.codec, pairs.loss + rounded.loss,
                                  pairs.nats + rounded.nats});
      }
    }
    subject.progress("uniform recipes",
                     (1 + static_cast<double>(&factor - kFactors.data())) / kFactors.size());
  }
}

// The loss of all lora matrices in one codec; nothing where there are none.
Status measure_lora(const PlanSubject& subject, const LossMeter& meter, Codec codec,
                    Curves& curves) {
  RWKV_ASSIGN(const auto edited, EditedSource::create(subject.source, subject.scratch_folder));
  bool any = false;
  for (const TensorBinding& binding : subject.model.tensors) {
    if (binding.role != Role::Lora) {
      continue;
    }
    any = true;
    RWKV_ASSIGN(const at::Tensor dense, load_f32(subject.source, binding.source));
    const std::vector<int64_t> shape(binding.shape.begin(), binding.shape.end());
    const at::Tensor numbers = rounded(dense.reshape(shape), codec, binding.layout);
    const std::vector<uint64_t>& source_shape = subject.source.tensors()[binding.source].shape;
    RWKV_TRY(edited->put(binding.name, source_shape,
                         {numbers.data_ptr<float>(), static_cast<size_t>(numbers.numel())}));
  }
  LoraPoint point{codec};
  if (any) {
    RWKV_ASSIGN(const TextLoss loss, meter.loss_of(*edited));
    point.loss = at_least(loss.kl);
    point.nats = loss.nats - curves.dense;
  }
  curves.lora.push_back(point);
  return {};
}

edge::MemoryOptions everything_loaded(unsigned n_threads) {
  edge::MemoryOptions options;
  options.mode = edge::MemoryMode::Loaded;
  options.n_threads = n_threads;
  return options;
}

// Bytes that a token reads of the tensors that it reads in this way, all rows of them.
double bytes_of(const PackPlan& plan, Access access) {
  double bytes = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    bytes += role_traits(tensor.binding.role).access == access
                 ? static_cast<double>(tensor.encoded_bytes())
                 : 0;
  }
  return bytes;
}

// The share of these rows' bytes that makes up what was touched; `other_rows` are bytes of the
// other kind of rows, and all other tensors are touched whole.
double share_touched(const PackPlan& plan, double touched, Access rows, double other_rows) {
  double always = other_rows;
  for (const PlannedTensor& tensor : plan.tensors) {
    always += bytes_read(role_traits(tensor.binding.role).access, tensor.encoded_bytes(),
                         tensor.binding.packed_rows(), {0, 0});
  }
  return std::clamp((touched - always) / bytes_of(plan, rows), 0.0, 1.0);
}

std::vector<uint8_t> halves_of(const PackPlan& plan) {
  std::vector<uint8_t> halves(plan.config.n_layer);
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.binding.block >= 0) {
      uint8_t& bits = halves[static_cast<size_t>(tensor.binding.block)];
      bits |= tensor.binding.role == Role::SignBits ? 1 : 0;
      bits |= tensor.binding.role == Role::Predictor ? 2 : 0;
    }
  }
  return halves;
}

Status measure_rows(const PlanSubject& subject, bool sparse, Curves& curves) {
  const edge::MemoryOptions options = everything_loaded(subject.n_threads);
  const std::string path = subject.scratch_folder + kScratchName;
  RWKV_ASSIGN(const PackedChoice dense, pack_dense(subject));
  RWKV_ASSIGN(const PackedMeasure base, measure_packed(dense.path, subject.held_out, options));
  const double head_bytes = bytes_of(dense.plan, Access::ChosenClusters);
  const double dense_share =
      share_touched(dense.plan, base.touched_per_token, Access::NamedNeurons, head_bytes);
  curves.ffn.push_back({.share = dense_share});
  curves.head.push_back({});
  if (!sparse) {
    return {};
  }
  Choice choice = lossless_choice(subject);
  size_t done = 0;
  for (const double recall : kRecalls) {
    choice.recall = recall;
    RWKV_ASSIGN(const PackedChoice packed, pack_choice(subject, choice, path));
    RWKV_ASSIGN(const PackedMeasure measure,
                measure_packed(path, subject.held_out, options, dense.path));
    const double share =
        share_touched(packed.plan, measure.touched_per_token, Access::NamedNeurons, head_bytes);
    curves.ffn.push_back({.value = recall,
                          .loss = at_least(measure.kl),
                          .nats = measure.nats_per_token - base.nats_per_token,
                          .share = share,
                          .halves = halves_of(packed.plan)});
    subject.progress("predictors", static_cast<double>(++done) / kRecalls.size());
  }
  choice.recall = 0;
  choice.p_min = kMasses[0];
  const double ffn_bytes = dense_share * bytes_of(dense.plan, Access::NamedNeurons);
  const auto use = [&](double p_min, const PackedChoice& packed) -> Status {
    RWKV_ASSIGN(const PackedMeasure measure,
                measure_packed(packed.path, subject.held_out, options, dense.path));
    const double share =
        share_touched(packed.plan, measure.touched_per_token, Access::ChosenClusters, ffn_bytes);
    curves.head.push_back({.value = p_min,
                           .loss = at_least(measure.kl),
                           .nats = measure.nats_per_token - base.nats_per_token,
                           .share = share,
                           .clusters = packed.plan.config.n_cluster});
    return {};
  };
  return pack_with_p_min(subject, choice, {kMasses.begin(), kMasses.end()}, use);
}

// Two dense models of different size give overhead and bandwidth.
Status measure_speed(const PlanSubject& subject, Curves& curves) {
  const std::string path = subject.scratch_folder + kScratchName;
  std::array<PackedMeasure, 2> measures;
  const Ladder& ladder = subject.ladder;
  // Of codecs whose products take the time of their bytes, if there are two.
  Codec smaller = ladder.coarsest();
  for (const Codec rung : ladder.below()) {
    smaller = codec_traits(rung).lut == nullptr ? rung : smaller;
  }
  const std::array<Codec, 2> codecs = {ladder.finest(), smaller};
  for (size_t i = 0; i < measures.size(); ++i) {
    const Choice dense = dense_choice(subject.matrices.size(), codecs[i], ladder.finest());
    RWKV_TRY(pack_choice(subject, dense, path).status());
    RWKV_ASSIGN(measures[i],
                measure_packed(path, subject.held_out, everything_loaded(subject.n_threads)));
  }
  const double seconds = 1 / measures[0].tokens_per_second - 1 / measures[1].tokens_per_second;
  const double bytes = measures[0].touched_per_token - measures[1].touched_per_token;
  SpeedModel& speed = curves.speed;
  // Where the larger is not slower, noise is larger than the difference: no overhead then.
  speed.bandwidth = seconds > 0 && bytes > 0
                        ? bytes / seconds
                        : measures[1].touched_per_token * measures[1].tokens_per_second;
  speed.overhead = std::max(
      0.0, 1 / measures[1].tokens_per_second - measures[1].touched_per_token / speed.bandwidth);
  if (speed.overhead == 0) {
    speed.bandwidth = measures[1].touched_per_token * measures[1].tokens_per_second;
  }
  return {};
}

}  // namespace

double SpeedModel::tokens_per_second(double touched) const {
  return bandwidth > 0 ? 1 / (overhead + touched / bandwidth) : 0;
}

double SpeedModel::touched_at(double tokens_per_second) const {
  return std::max(0.0, (1 / tokens_per_second - overhead) * bandwidth);
}

std::vector<MatrixSetting> uniform_settings(const std::vector<PlannedMatrix>& matrices,
                                            const UniformPoint& point) {
  std::vector<MatrixSetting> settings;
  for (const PlannedMatrix& matrix : matrices) {
    const bool pairs = point.factor > 0 && matrix.may_pair &&
                       rank_of(point.factor, matrix.rows, matrix.cols) >= kLeastRank &&
                       (point.with_output || matrix.product != "att.output");
    settings.push_back(
        {pairs ? point.factor : 0,
         pairs ? point.codec : codec_for_columns(point.codec, matrix.packed_cols())});
  }
  return settings;
}

const LoraPoint& Curves::lora_in(Codec codec) const {
  size_t i = 0;
  while (lora[i].codec != codec) {
    ++i;
  }
  return lora[i];
}

Curves unmeasured_curves(const PlanSubject& subject) {
  Curves curves;
  for (const PlannedMatrix& matrix : subject.matrices) {
    std::vector<double> factors = factors_for(subject, matrix);
    factors.insert(factors.begin(), 0);
    auto& points = curves.matrices.emplace_back();
    for (const double factor : factors) {
      for (const Codec rung : subject.ladder.rungs_for(matrix.packed_cols())) {
        points.push_back({{factor, rung}, 0});
      }
    }
  }
  for (const Codec rung : subject.ladder.rungs()) {
    curves.lora.push_back({rung});
  }
  curves.ffn = {RowsPoint{}, {.value = kRecalls[0]}};
  curves.head = {RowsPoint{}, {.value = kMasses[0]}};
  return curves;
}

Status check_curves(const Curves& curves, const PlanSubject& subject) {
  const Curves expected = unmeasured_curves(subject);
  if (curves.matrices.size() > expected.matrices.size()) {
    return bad_input("has curves of {} matrices, the model has {}", curves.matrices.size(),
                     expected.matrices.size());
  }
  const auto same_setting = [](const MatrixPoint& a, const MatrixPoint& b) {
    return a.setting == b.setting;
  };
  for (size_t i = 0; i < curves.matrices.size(); ++i) {
    if (!std::equal(curves.matrices[i].begin(), curves.matrices[i].end(),
                    expected.matrices[i].begin(), expected.matrices[i].end(), same_setting)) {
      return bad_input("has other settings of '{}' than are measured here",
                       subject.matrices[i].name);
    }
  }
  const auto same_codec = [](const LoraPoint& a, const LoraPoint& b) { return a.codec == b.codec; };
  if (curves.lora.size() > expected.lora.size() ||
      !std::equal(curves.lora.begin(), curves.lora.end(), expected.lora.begin(), same_codec)) {
    return bad_input("expected losses of lora matrices in {}, found others",
                     subject.ladder.describe());
  }
  for (const UniformPoint& point : curves.uniform) {
    const auto rungs = subject.ladder.rungs();
    if (std::find(rungs.begin(), rungs.end(), point.codec) == rungs.end()) {
      return bad_input("has a uniform recipe in {}, which is none of {}",
                       codec_traits(point.codec).name, subject.ladder.describe());
    }
  }
  return {};
}

Result<Curves> measure_curves(const PlanSubject& subject, LossMeter& meter,
                              const CurveOptions& options, Curves begun) {
  Curves curves = std::move(begun);
  if (curves.dense == 0) {
    curves.dense = meter.loss(lossless_choice(subject).matrices).nats;
    curves.method = subject.has_pairs ? best_method(subject, meter) : PairMethod{};
  }
  meter.set_method(curves.method);
  if (curves.matrices.size() < subject.matrices.size()) {
    RWKV_TRY(measure_matrices(subject, meter, options, curves));
  }
  if (curves.lora.empty()) {
    curves.lora = {{subject.ladder.finest()}};
  }
  while (curves.lora.size() < subject.ladder.rungs().size()) {
    RWKV_TRY(measure_lora(subject, meter, subject.ladder.rungs()[curves.lora.size()], curves));
    RWKV_TRY(options.save(curves));
  }
  if (curves.ffn.empty() && (options.sparse || options.speed)) {
    RWKV_TRY(measure_rows(subject, options.sparse, curves));
    RWKV_TRY(options.save(curves));
  }
  if (curves.uniform.empty()) {
    measure_uniform(subject, meter, curves);
    RWKV_TRY(options.save(curves));
  }
  if (options.speed && curves.speed.bandwidth == 0) {
    RWKV_TRY(measure_speed(subject, curves));
    RWKV_TRY(options.save(curves));
  }
  return curves;
}

}  // namespace rwkv::press

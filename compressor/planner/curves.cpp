#include "compressor/planner/curves.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "formats/arch/access.h"

namespace rwkv::press {
namespace {

constexpr std::array<double, 4> kRecalls = {0.95, 0.98, 0.99, 0.999};
constexpr std::array<double, 5> kMasses = {0.9, 0.95, 0.98, 0.99, 0.999};
constexpr double kTrialFactor = 4;  // at which ways to find pairs are compared
constexpr int64_t kWidestDiagonal = 1024;
constexpr const char* kScratchName = "/.rwkv-press-plan.gguf";

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

std::vector<MatrixPoint> measure_matrix(const PlanSubject& subject, LossMeter& meter, size_t index,
                                        const std::function<void(double share)>& show) {
  const PlannedMatrix& matrix = subject.matrices[index];
  const Codec finest = subject.ladder.finest();
  std::vector<double> dense;
  for (const Codec rung : subject.ladder.rungs_for(matrix.packed_cols())) {
    if (rung != finest) {
      dense.push_back(meter.loss_with(index, {0, rung}).kl);
    }
  }
  const auto factors = pair_factors(subject, matrix);
  std::vector<double> pairs;
  for (const double factor : factors) {
    pairs.push_back(meter.loss_with(index, {factor, finest}).kl);
    show(static_cast<double>(pairs.size()) / static_cast<double>(factors.size()));
  }
  return points_from(subject, matrix, dense, pairs);
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

// A pair in another codec is assumed to lose what the pair and the codec lose by themselves.
void measure_uniform(const PlanSubject& subject, LossMeter& meter, Curves& curves) {
  const Codec finest = subject.ladder.finest();
  std::map<Codec, UniformPoint> dense;
  UniformPoint pairs;
  const std::vector<UniformPoint> points = uniform_points(subject);
  for (UniformPoint point : points) {
    const bool is_lossless = point.factor == 0 && point.codec == finest;
    if (point.factor > 0 && point.codec != finest) {
      point.loss = pairs.loss + dense[point.codec].loss;
      point.nats = pairs.nats + dense[point.codec].nats;
    } else if (!is_lossless) {
      const TextLoss loss = meter.loss(uniform_settings(subject.matrices, point));
      point.loss = at_least_lossy(loss.kl);
      point.nats = loss.nats - curves.dense;
    }
    curves.uniform.push_back(point);
    if (point.factor == 0) {
      dense[point.codec] = point;
    } else if (point.codec == finest) {
      pairs = point;
    }
    subject.progress("uniform recipes", static_cast<double>(curves.uniform.size()) /
                                            static_cast<double>(points.size()));
  }
}

// The loss of all lora matrices in one codec; nothing where there are none.
Status measure_lora(const PlanSubject& subject, const LossMeter& meter, Codec codec,
                    Curves& curves) {
  RWKV_ASSIGN(const auto edited, with_lora_in(subject, codec));
  LoraPoint point{codec};
  if (edited != nullptr) {
    RWKV_ASSIGN(const TextLoss loss, meter.loss_of(*edited));
    point.loss = at_least_lossy(loss.kl);
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
                          .loss = at_least_lossy(measure.kl),
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
                           .loss = at_least_lossy(measure.kl),
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
    const size_t n_rungs = subject.ladder.rungs_for(matrix.packed_cols()).size();
    auto& points = curves.matrices.emplace_back(
        points_from(subject, matrix, std::vector<double>(n_rungs),
                    std::vector<double>(pair_factors(subject, matrix).size())));
    for (MatrixPoint& point : points) {
      point.loss = 0;
    }
  }
  curves.lora = without_lora_losses(subject);
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
  for (const SampledChoice& choice : curves.samples) {
    if (choice.matrix >= subject.matrices.size()) {
      return bad_input("has a measured choice of matrix {}, the model has {}", choice.matrix,
                       subject.matrices.size());
    }
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

std::span<const double> planned_recalls() {
  return kRecalls;
}

std::span<const double> planned_masses() {
  return kMasses;
}

Status measure_speed_curve(const PlanSubject& subject, const CurveOptions& options,
                           Curves& curves) {
  if (options.speed && curves.speed.bandwidth == 0) {
    RWKV_TRY(measure_speed(subject, curves));
    RWKV_TRY(options.save(curves));
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
  RWKV_TRY(measure_speed_curve(subject, options, curves));
  if (curves.uniform.empty()) {
    measure_uniform(subject, meter, curves);
    RWKV_TRY(options.save(curves));
  }
  return curves;
}

}  // namespace rwkv::press

// Measured curves of loss against bytes, one per component: what each setting of each matrix costs
// by itself, what predictors of a recall cost, what a clustered head of a p_min costs. A loss is
// KL(dense || model) over held-out text, nats per token (TextLoss); `nats` is how far the
// cross-entropy moves, which may be below zero.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/checkpoint/edited_source.h"
#include "compressor/planner/loss_meter.h"
#include "compressor/planner/subject.h"

namespace rwkv::press {

/// A setting of a matrix and what it costs by itself.
struct MatrixPoint {
  MatrixSetting setting;
  double loss = 0;
};

/// A way to read only the rows that a token needs: FFN predictors of a recall, or a clustered head
/// of a p_min. `value` 0 is without.
struct RowsPoint {
  double value = 0;
  double loss = 0;
  double nats = 0;
  double share = 1;  ///< of the rows' bytes that a token touches
  /// Predictors: by block, bit 0 if it has sign bits, bit 1 if it has an MLP.
  std::vector<uint8_t> halves = {};
  uint64_t clusters = 0;  ///< of the head
};

/// All matrices alike, as in recipes without a plan.
struct UniformPoint {
  double factor = 0;         ///< 0: all dense
  bool with_output = false;  ///< att.output is a pair too
  Codec codec{};
  double loss = 0;
  double nats = 0;
};

/// The lora matrices, all in one codec.
struct LoraPoint {
  Codec codec{};
  double loss = 0;
  double nats = 0;
};

/// Decoding speed of this machine: seconds per token = overhead + bytes touched / bandwidth.
struct SpeedModel {
  double overhead = 0;
  double bandwidth = 0;  ///< bytes per second; 0: not measured

  double tokens_per_second(double touched) const;
  /// The bytes that may be touched at this speed; 0 if none may.
  double touched_at(double tokens_per_second) const;
};

/// A choice of one matrix that was measured from end to end, to scale what was estimated.
struct SampledChoice {
  size_t matrix = 0;
  MatrixSetting setting;
  double estimated = 0;  ///< before it was scaled
  double measured = 0;
};

/// Measured in the order of its members; one that was interrupted has the first of them.
struct Curves {
  PairMethod method;
  double dense = 0;  ///< cross-entropy of the dense model, nats per token; 0: nothing is measured
  std::vector<std::vector<MatrixPoint>> matrices;
  std::vector<LoraPoint> lora;  ///< one for each rung, the finest first
  std::vector<RowsPoint> ffn, head;
  SpeedModel speed;
  std::vector<UniformPoint> uniform;
  /// If the losses of matrices are estimates (estimate.h); empty while they are not scaled yet.
  std::vector<SampledChoice> samples = {};

  /// The point of a codec of the ladder.
  const LoraPoint& lora_in(Codec codec) const;
};

/// The recalls of FFN predictors, and the p_min of clustered heads, that a plan chooses from.
std::span<const double> planned_recalls();
std::span<const double> planned_masses();

/// The settings of a uniform recipe.
std::vector<MatrixSetting> uniform_settings(const std::vector<PlannedMatrix>& matrices,
                                            const UniformPoint& point);

/// The factors of the pairs that a matrix may be, the largest pair first.
std::vector<double> pair_factors(const PlanSubject& subject, const PlannedMatrix& matrix);
/// All settings of a matrix: `dense` are the losses of its rungs but the finest, `pairs` those of
/// pair_factors() in the finest; what rounding a pair costs is taken from `dense`.
std::vector<MatrixPoint> points_from(const PlanSubject& subject, const PlannedMatrix& matrix,
                                     const std::vector<double>& dense,
                                     const std::vector<double>& pairs);
/// Their loss of a setting, or of the same in the codec that it has where there are no whole groups
/// of columns.
double loss_of(const std::vector<MatrixPoint>& points, const MatrixSetting& setting);
/// The same points with the losses of rungs and pairs multiplied.
void rescale(const PlanSubject& subject, size_t matrix, std::vector<MatrixPoint>& points,
             const std::function<double(const MatrixSetting& setting)>& scale);
/// The uniform recipes that are compared with, without losses.
std::vector<UniformPoint> uniform_points(const PlanSubject& subject);
/// A point for each rung without a loss.
std::vector<LoraPoint> without_lora_losses(const PlanSubject& subject);
/// What a lossy choice costs at least, so that the dense model wins whenever it fits.
double at_least_lossy(double loss);
/// The model with its lora matrices in a codec; null if it has none.
Result<std::unique_ptr<EditedSource>> with_lora_in(const PlanSubject& subject, Codec codec);

/// All settings with losses of zero, for decisions that depend only on shapes.
Curves unmeasured_curves(const PlanSubject& subject);
/// BadInput if curves have other settings than those that are measured for this model: those of a
/// file may have been changed by hand. Unfinished curves may have fewer.
Status check_curves(const Curves& curves, const PlanSubject& subject);

/// What to measure besides the matrices.
struct CurveOptions {
  bool sparse = false;  ///< settings that only help if rows are read on demand
  bool speed = false;   ///< the speed of decoding, the only measurement that varies
  /// Called with what is measured so far, after every matrix and every other step.
  std::function<Status(const Curves&)> save = [](const Curves&) { return Status(); };
};

/// Measures everything that `begun` does not have yet: with the same options and subject, the same
/// curves as in one go.
Result<Curves> measure_curves(const PlanSubject& subject, LossMeter& meter,
                              const CurveOptions& options, Curves begun = {});

/// Of these, the speed, on packed files.
Status measure_speed_curve(const PlanSubject& subject, const CurveOptions& options, Curves& curves);

/// Writes curves to a file, replacing it, and reads them back, so that plans for several budgets
/// measure once, and an interrupted measurement goes on. `key` identifies the measurement; a file
/// with another key is refused (Usage), as is one of an earlier version (BadInput).
Status write_curves(const std::string& path, const std::string& key, const Curves& curves);
Result<Curves> read_curves(const std::string& path, const std::string& key);
/// The same as text; messages do not name a file.
std::string curves_text(const std::string& key, const Curves& curves);
Result<Curves> parse_curves(const std::string& text, const std::string& key);
/// The "checksum" that a file with this content must have; empty if it is no JSON object.
std::string curves_checksum(const std::string& text);

}  // namespace rwkv::press

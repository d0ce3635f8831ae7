// The settings that curves have a point for, and losses that follow from others.
#include <algorithm>
#include <array>

#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/planner/curves.h"
#include "compressor/planner/learnt_rounding.h"
#include "compressor/stages/quantize.h"

namespace rwkv::press {
namespace {

// Pairs of square matrices save nothing below 2.
constexpr std::array<double, 9> kFactors = {2.5, 3, 4, 5, 6, 8, 12, 16, 32};
constexpr int64_t kLeastRank = 2;
constexpr double kLeastLoss = 1e-9;

bool has_rank(double factor, const PlannedMatrix& matrix) {
  return matrix.may_pair && rank_of(factor, matrix.rows, matrix.cols) >= kLeastRank;
}

// Of the factors of a pair in a lut codec, those that are in it: each adds about the error that the
// dense matrix has in this codec. What int8 costs is little next to the pair itself.
double n_rounded(const PlannedMatrix& matrix, double factor, Codec codec) {
  const auto rank = static_cast<uint64_t>(rank_of(factor, matrix.rows, matrix.cols));
  const bool both = codec_traits(codec).lut != nullptr && codec_for_columns(codec, rank) == codec;
  return both ? 2 : 1;
}

}  // namespace

double at_least_lossy(double loss) {
  return std::max(loss, kLeastLoss);
}

std::vector<double> pair_factors(const PlanSubject& subject, const PlannedMatrix& matrix) {
  std::vector<double> factors;
  for (const double factor : kFactors) {
    if (subject.has_pairs && has_rank(factor, matrix)) {
      factors.push_back(factor);
    }
  }
  return factors;
}

std::vector<MatrixPoint> points_from(const PlanSubject& subject, const PlannedMatrix& matrix,
                                     const std::vector<double>& dense,
                                     const std::vector<double>& pairs) {
  std::vector<MatrixPoint> points;
  size_t next = 0;
  for (const Codec rung : subject.ladder.rungs_for(matrix.packed_cols())) {
    const bool is_finest = rung == subject.ladder.finest();
    points.push_back({{0, rung}, is_finest ? 0 : at_least_lossy(dense[next++])});
  }
  const std::vector<MatrixPoint> rounded = points;
  const std::vector<double> factors = pair_factors(subject, matrix);
  for (size_t i = 0; i < factors.size(); ++i) {
    // What rounding costs adds up nearly enough with what the pair costs.
    for (const MatrixPoint& point : rounded) {
      const Codec codec = point.setting.codec;
      points.push_back(
          {{factors[i], codec},
           at_least_lossy(pairs[i]) + n_rounded(matrix, factors[i], codec) * point.loss});
    }
  }
  return points;
}

double loss_of(const std::vector<MatrixPoint>& points, const MatrixSetting& setting) {
  double in_int8 = 0;
  for (const MatrixPoint& point : points) {
    if (point.setting == setting) {
      return point.loss;
    }
    if (point.setting == MatrixSetting{setting.factor, Codec::I8Row}) {
      in_int8 = point.loss;
    }
  }
  return in_int8;
}

void rescale(const PlanSubject& subject, size_t matrix, std::vector<MatrixPoint>& points,
             const std::function<double(const MatrixSetting& setting)>& scale) {
  const Codec finest = subject.ladder.finest();
  std::vector<double> dense;
  std::vector<double> pairs;
  for (const MatrixPoint& point : points) {
    const double loss = point.loss * scale(point.setting);
    if (point.setting.factor == 0 && point.setting.codec != finest) {
      dense.push_back(loss);
    } else if (point.setting.factor > 0 && point.setting.codec == finest) {
      pairs.push_back(loss);
    }
  }
  points = points_from(subject, subject.matrices[matrix], dense, pairs);
}

std::vector<UniformPoint> uniform_points(const PlanSubject& subject) {
  std::vector<UniformPoint> points;
  for (const Codec rung : subject.ladder.rungs()) {
    points.push_back({.codec = rung});
  }
  const size_t n = subject.has_pairs ? kFactors.size() : 0;
  for (const double factor : std::span(kFactors).first(n)) {
    for (const bool with_output : {false, true}) {
      for (const Codec rung : subject.ladder.rungs()) {
        points.push_back({.factor = factor, .with_output = with_output, .codec = rung});
      }
    }
  }
  return points;
}

std::vector<MatrixSetting> uniform_settings(const std::vector<PlannedMatrix>& matrices,
                                            const UniformPoint& point) {
  std::vector<MatrixSetting> settings;
  for (const PlannedMatrix& matrix : matrices) {
    const bool pairs = point.factor > 0 && has_rank(point.factor, matrix) &&
                       (point.with_output || matrix.product != "att.output");
    settings.push_back(
        {pairs ? point.factor : 0,
         pairs ? point.codec : codec_for_columns(point.codec, matrix.packed_cols())});
  }
  return settings;
}

std::vector<LoraPoint> without_lora_losses(const PlanSubject& subject) {
  std::vector<LoraPoint> points;
  for (const Codec rung : subject.ladder.rungs()) {
    points.push_back({rung});
  }
  return points;
}

Result<std::unique_ptr<EditedSource>> with_lora_in(const PlanSubject& subject, Codec codec) {
  RWKV_ASSIGN(auto edited, EditedSource::create(subject.source, subject.scratch_folder));
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
  if (!any) {
    edited.reset();
  }
  return edited;
}

}  // namespace rwkv::press

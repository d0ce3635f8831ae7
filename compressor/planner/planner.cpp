#include "compressor/planner/planner.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace rwkv::press {
namespace {

constexpr size_t kReach = 2;         // neighbours of a factor that a round looks at
constexpr double kLeastGain = 1e-7;  // of the distance, nats per token, that a step must bring
constexpr int kFileAttempts = 3;
constexpr const char* kScratchName = "/.rwkv-press-plan.gguf";

using Points = std::vector<std::vector<MatrixPoint>>;

// Factors of a matrix's points from dense to the smallest rank.
std::vector<double> factors_of(const std::vector<MatrixPoint>& points, const Ladder& ladder) {
  std::vector<double> factors;
  for (const MatrixPoint& point : points) {
    if (point.setting.codec == ladder.finest()) {
      factors.push_back(point.setting.factor);
    }
  }
  std::sort(factors.begin(), factors.end());
  return factors;
}

// What rounding a dense matrix to this codec costs by itself.
double rounding_loss(const std::vector<MatrixPoint>& points, Codec codec) {
  for (const MatrixPoint& point : points) {
    if (point.setting == MatrixSetting{0, codec}) {
      return point.loss;
    }
  }
  return 0;
}

// What a matrix's nearby settings cost where all others have the settings that `meter` was given
// last: some factors up and down, one rung up and down. `loss` is the loss there.
std::vector<MatrixPoint> nearby(LossMeter& meter, const Ladder& ladder,
                                const std::vector<MatrixPoint>& points, size_t matrix,
                                const MatrixSetting& now, double loss) {
  std::vector<MatrixPoint> found;
  const auto add = [&](double factor, double moved) {
    found.push_back({{factor, now.codec}, moved});
    const double here = rounding_loss(points, now.codec);
    for (const Codec rung : ladder.neighbours(now.codec)) {
      found.push_back({{factor, rung}, moved + (rounding_loss(points, rung) - here)});
    }
  };
  add(now.factor, 0);
  const std::vector<double> factors = factors_of(points, ladder);
  const auto here = std::find(factors.begin(), factors.end(), now.factor) - factors.begin();
  for (size_t i = 0; i < factors.size(); ++i) {
    const auto distance = static_cast<size_t>(std::abs(static_cast<std::ptrdiff_t>(i) - here));
    if (distance == 0 || distance > kReach) {
      continue;
    }
    add(factors[i], meter.loss_with(matrix, {factors[i], now.codec}).kl - loss);
  }
  return found;
}

class Refiner {
 public:
  Refiner(const PlanSubject& subject, LossMeter& meter, const Curves& curves,
          const PlanSpace& space)
      : subject_(subject), meter_(meter), curves_(curves), space_(space) {}

  // Improves `planned`, for `rounds` rounds at most; its losses become the measured ones.
  Status run(PlannedChoice& planned, uint64_t rounds) {
    double loss = meter_.loss(planned.choice.matrices).kl;
    points_ = curves_.matrices;
    for (uint64_t round = 0; round < rounds; ++round) {
      look_around(planned, loss, round, rounds);
      RWKV_ASSIGN(const bool better, step(planned, loss));
      if (!better) {
        break;
      }
    }
    measure(planned);
    return {};
  }
  // Its losses: of the matrices as a whole, of all else from the curves.
  void measure(PlannedChoice& planned) {
    const TextLoss whole = meter_.loss(planned.choice.matrices);
    const LoraPoint& lora = curves_.lora_in(planned.choice.lora);
    planned.loss = whole.kl + planned.frame.loss() + lora.loss;
    planned.nats = whole.nats - curves_.dense + planned.frame.nats() + lora.nats;
  }
  // The last curves.
  const Points& points() const { return points_; }

 private:
  void look_around(const PlannedChoice& planned, double loss, uint64_t round, uint64_t rounds) {
    for (size_t i = 0; i < points_.size(); ++i) {
      points_[i] =
          nearby(meter_, subject_.ladder, curves_.matrices[i], i, planned.choice.matrices[i], loss);
      subject_.progress("refining",
                        (static_cast<double>(round) +
                         static_cast<double>(i + 1) / static_cast<double>(points_.size())) /
                            static_cast<double>(rounds));
    }
  }

  // Many changes at once interact: those that hardly pay are given up first.
  Result<bool> step(PlannedChoice& planned, double& loss) {
    std::vector<double> sizes;
    for (const auto& options : points_) {
      for (const MatrixPoint& point : options) {
        sizes.push_back(std::abs(point.loss));
      }
    }
    std::nth_element(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2),
                     sizes.end());
    const double usual = sizes[sizes.size() / 2];
    for (const double price : {0.0, usual / 2, 2 * usual, 8 * usual}) {
      Points priced = points_;
      for (auto& options : priced) {
        for (size_t o = 1; o < options.size(); ++o) {
          options[o].loss += options[o].setting.factor != options[0].setting.factor ? price : 0;
        }
      }
      RWKV_ASSIGN(const std::optional<PlannedChoice> next, space_.best_in(planned.frame, priced));
      if (!next || next->choice.matrices == planned.choice.matrices) {
        continue;
      }
      const double measured = meter_.loss(next->choice.matrices).kl;
      if (measured < loss - kLeastGain) {
        planned = *next;
        loss = measured;
        return true;
      }
    }
    return false;
  }

  const PlanSubject& subject_;
  LossMeter& meter_;
  const Curves& curves_;
  const PlanSpace& space_;
  Points points_;
};

Result<PackedMeasure> pack_and_measure(const PlanSubject& subject, const PlannedChoice& planned) {
  const std::string path = subject.scratch_folder + kScratchName;
  RWKV_ASSIGN(const PackedChoice dense, pack_dense(subject));
  RWKV_TRY(pack_choice(subject, planned.choice, path).status());
  return measure_packed(path, subject.held_out, planned.frame.memory, dense.path);
}

// What stages learn from the data can make the file larger than predicted: then again with that
// much less.
Status make_fit(const PlanSubject& subject, const Curves& curves, const PlanRequest& request,
                Refiner& refiner, PlanReport& report) {
  PlanRequest reduced = request;
  for (int attempt = 0; attempt < kFileAttempts; ++attempt) {
    RWKV_ASSIGN(report.measured, pack_and_measure(subject, report.planned));
    if (report.measured.resident <= request.resident) {
      return {};
    }
    if (attempt + 1 == kFileAttempts) {
      break;
    }
    reduced.resident -= report.measured.resident - request.resident;
    const PlanSpace space(subject, curves, reduced);
    RWKV_ASSIGN(const std::optional<PlannedChoice> next,
                space.best_in(report.planned.frame, refiner.points()));
    if (!next) {
      break;
    }
    report.planned = *next;
    refiner.measure(report.planned);
  }
  return failed("the model takes {} bytes, predicted were {}, the budget is {}; lower the budget",
                report.measured.resident, report.planned.footprint.resident, request.resident);
}

Status no_choice(const PlanSpace& space, const PlanRequest& request) {
  RWKV_ASSIGN(const PlannedChoice least, space.smallest());
  if (least.footprint.resident <= request.resident && request.min_speed > 0) {
    return usage_error(
        "no choice within {} bytes is predicted to decode {} tokens per second; lower --min-speed",
        request.resident, request.min_speed);
  }
  return usage_error(
      "a budget of {} bytes cannot be met; the smallest that can is {} bytes "
      "(memory mode {})",
      request.resident, least.footprint.resident, edge::mode_traits(*least.frame.memory.mode).name);
}

void list_losses(const Curves& curves, PlanReport& report) {
  for (size_t i = 0; i < curves.matrices.size(); ++i) {
    double loss = 0;
    for (const MatrixPoint& point : curves.matrices[i]) {
      loss = point.setting == report.planned.choice.matrices[i] ? point.loss : loss;
    }
    report.matrix_losses.push_back(loss);
  }
}

}  // namespace

Status check_budget(const PlanSubject& subject, const PlanRequest& request) {
  const Curves curves = unmeasured_curves(subject);
  PlanRequest any_speed = request;
  any_speed.min_speed = 0;
  const PlanSpace space(subject, curves, any_speed);
  RWKV_ASSIGN(const PlannedChoice least, space.smallest());
  return least.footprint.resident <= request.resident ? Status() : no_choice(space, any_speed);
}

Result<PlanReport> plan_for_budget(const PlanSubject& subject, LossMeter& meter,
                                   const Curves& curves, const PlanRequest& request,
                                   uint64_t rounds) {
  const PlanSpace space(subject, curves, request);
  meter.set_method(curves.method);
  RWKV_ASSIGN(const std::optional<PlannedChoice> first, space.best());
  if (!first) {
    return no_choice(space, request);
  }
  PlanReport report;
  report.dense_loss = curves.dense;
  report.planned = *first;
  RWKV_ASSIGN(report.uniform, space.best_uniform());
  const bool has_pairs =
      std::any_of(first->choice.matrices.begin(), first->choice.matrices.end(),
                  [](const MatrixSetting& setting) { return setting.factor > 0; });
  Refiner refiner(subject, meter, curves, space);
  if (has_pairs) {
    refiner.measure(report.planned);
    if (report.uniform && report.uniform->loss < report.planned.loss) {
      report.planned = *report.uniform;
    }
    RWKV_TRY(refiner.run(report.planned, rounds));
  } else {
    RWKV_TRY(refiner.run(report.planned, 0));
  }
  RWKV_TRY(make_fit(subject, curves, request, refiner, report));
  if (report.uniform && report.measured.kl > report.uniform->loss) {
    RWKV_ASSIGN(const PackedMeasure measured, pack_and_measure(subject, *report.uniform));
    if (measured.kl < report.measured.kl && measured.resident <= request.resident) {
      report.planned = *report.uniform;
      report.measured = measured;
    }
  }
  report.predicted_loss = curves.dense + report.planned.nats;
  report.predicted_speed = curves.speed.tokens_per_second(report.planned.footprint.touched);
  report.recipe = recipe_yaml(report.planned.choice, subject.matrices, subject.frame);
  if (report.uniform) {
    report.uniform_recipe = recipe_yaml(report.uniform->choice, subject.matrices, subject.frame);
  }
  list_losses(curves, report);
  return report;
}

}  // namespace rwkv::press

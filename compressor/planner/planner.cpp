#include "compressor/planner/planner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

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

bool has_point(const std::vector<MatrixPoint>& points, const MatrixSetting& setting) {
  return std::any_of(points.begin(), points.end(),
                     [&](const MatrixPoint& point) { return point.setting == setting; });
}

bool is_lut(Codec codec) {
  return codec_traits(codec).lut != nullptr;
}

// What a matrix's nearby settings cost where all others have the settings that `meter` was given
// last: some factors up and down, one rung up and down. `loss` is the loss there.
std::vector<MatrixPoint> nearby(LossMeter& meter, const Ladder& ladder,
                                const std::vector<MatrixPoint>& points, size_t matrix,
                                const MatrixSetting& now, double loss) {
  std::vector<MatrixPoint> found;
  const auto add = [&](double factor, double moved) {
    found.push_back({{factor, now.codec}, moved});
    for (const Codec rung : ladder.neighbours(now.codec)) {
      if (has_point(points, {factor, rung})) {
        found.push_back({{factor, rung},
                         moved + (rounding_loss(points, rung) - rounding_loss(points, now.codec))});
      }
    }
  };
  found.push_back({now, 0});
  const double rounded = rounding_loss(points, now.codec);
  for (const Codec rung : ladder.neighbours(now.codec)) {
    if (!has_point(points, {now.factor, rung})) {
      continue;
    }
    // Steps between low bits are large, and depend on what has been rounded already.
    const bool is_large = is_lut(rung) || is_lut(now.codec);
    found.push_back({{now.factor, rung},
                     is_large ? meter.loss_with(matrix, {now.factor, rung}).kl - loss
                              : rounding_loss(points, rung) - rounded});
  }
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
  /// Without a meter, choices keep the losses that they have.
  Refiner(const PlanSubject& subject, LossMeter* meter, const Curves& curves,
          const PlanSpace& space)
      : subject_(subject),
        meter_(meter),
        curves_(curves),
        space_(space),
        points_(curves.matrices) {}

  // Improves `planned`, for `rounds` rounds at most; its losses become the measured ones.
  Status run(PlannedChoice& planned, uint64_t rounds) {
    if (meter_ == nullptr) {
      measure(planned);
      return {};
    }
    double loss = meter_->loss(planned.choice.matrices).kl;
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
    if (meter_ == nullptr) {
      planned.nats = planned.loss;
      return;
    }
    const TextLoss whole = meter_->loss(planned.choice.matrices);
    const LoraPoint& lora = curves_.lora_in(planned.choice.lora);
    planned.loss = whole.kl + planned.frame.loss() + lora.loss;
    planned.nats = whole.nats - curves_.dense + planned.frame.nats() + lora.nats;
  }
  // The last curves.
  const Points& points() const { return points_; }

 private:
  void look_around(const PlannedChoice& planned, double loss, uint64_t round, uint64_t rounds) {
    for (size_t i = 0; i < points_.size(); ++i) {
      points_[i] = nearby(*meter_, subject_.ladder, curves_.matrices[i], i,
                          planned.choice.matrices[i], loss);
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
          options[o].loss += options[o].setting != options[0].setting ? price : 0;
        }
      }
      RWKV_ASSIGN(const std::optional<PlannedChoice> next, space_.best_in(planned.frame, priced));
      if (!next || next->choice.matrices == planned.choice.matrices) {
        continue;
      }
      const double measured = meter_->loss(next->choice.matrices).kl;
      if (measured < loss - kLeastGain) {
        planned = *next;
        loss = measured;
        return true;
      }
    }
    return false;
  }

  const PlanSubject& subject_;
  LossMeter* meter_;
  const Curves& curves_;
  const PlanSpace& space_;
  Points points_;
};

// The choice as a file, measured; sets `file_bytes`.
Result<PackedMeasure> pack_and_measure(const PlanSubject& subject, const PlannedChoice& planned,
                                       uint64_t& file_bytes) {
  const std::string path = subject.scratch_folder + kScratchName;
  RWKV_ASSIGN(const PackedChoice dense, pack_dense(subject));
  RWKV_TRY(pack_choice(subject, planned.choice, path).status());
  std::error_code error;
  file_bytes = std::filesystem::file_size(path, error);
  if (error) {
    return failed("{}: cannot tell its size: {}", path, error.message());
  }
  return measure_packed(path, subject.held_out, planned.frame.memory, dense.path);
}

bool is_within(uint64_t bytes, uint64_t limit) {
  return limit == 0 || bytes <= limit;
}

// What stages learn from the data can make the file larger than predicted: then again with that
// much less.
Status make_fit(const PlanSubject& subject, const Curves& curves, const PlanRequest& request,
                Refiner& refiner, PlanReport& report) {
  PlanRequest reduced = request;
  for (int attempt = 0; attempt < kFileAttempts; ++attempt) {
    RWKV_ASSIGN(report.measured, pack_and_measure(subject, report.planned, report.file_bytes));
    const uint64_t resident = report.measured.resident;
    if (is_within(resident, request.resident) && is_within(report.file_bytes, request.size)) {
      return {};
    }
    if (attempt + 1 == kFileAttempts) {
      break;
    }
    reduced.resident -= is_within(resident, request.resident) ? 0 : resident - request.resident;
    reduced.size -=
        is_within(report.file_bytes, request.size) ? 0 : report.file_bytes - request.size;
    const PlanSpace space(subject, curves, reduced);
    RWKV_ASSIGN(const std::optional<PlannedChoice> next,
                space.best_in(report.planned.frame, refiner.points()));
    if (!next) {
      break;
    }
    report.planned = *next;
    refiner.measure(report.planned);
  }
  return failed(
      "the model takes {} bytes in memory and {} as a file, predicted were {} and {}; lower the "
      "budget",
      report.measured.resident, report.file_bytes, report.planned.footprint.resident,
      report.planned.footprint.file);
}

// Packs and measures the plan, and the uniform recipe where that may be better.
Status check(const PlanSubject& subject, const Curves& curves, const PlanRequest& request,
             Refiner& refiner, PlanReport& report) {
  RWKV_TRY(make_fit(subject, curves, request, refiner, report));
  report.is_checked = true;
  if (!report.uniform || report.measured.kl <= report.uniform->loss ||
      report.uniform->choice.matrices == report.planned.choice.matrices) {
    return {};
  }
  uint64_t file_bytes = 0;
  RWKV_ASSIGN(const PackedMeasure measured, pack_and_measure(subject, *report.uniform, file_bytes));
  if (measured.kl < report.measured.kl && is_within(measured.resident, request.resident) &&
      is_within(file_bytes, request.size)) {
    report.planned = *report.uniform;
    report.measured = measured;
    report.file_bytes = file_bytes;
  }
  return {};
}

// Limits below what can be, one by one.
Status too_small(const PlanSpace& space, const PlanRequest& request) {
  if (request.resident > 0) {
    RWKV_ASSIGN(const PlannedChoice least, space.smallest(Measure::Resident));
    if (least.footprint.resident > request.resident) {
      return usage_error(
          "a budget of {} bytes cannot be met; the smallest that can is {} bytes (memory mode {})",
          request.resident, least.footprint.resident,
          edge::mode_traits(*least.frame.memory.mode).name);
    }
  }
  if (request.size > 0) {
    RWKV_ASSIGN(const PlannedChoice least, space.smallest(Measure::File));
    if (least.footprint.file > request.size) {
      return usage_error("a file of {} bytes cannot be made; the smallest that can is {} bytes",
                         request.size, least.footprint.file);
    }
  }
  return {};
}

Status no_choice(const PlanSpace& space, const PlanRequest& request) {
  RWKV_TRY(too_small(space, request));
  std::string limits;
  const auto add = [&](const std::string& text) {
    limits += (limits.empty() ? "" : " and ") + text;
  };
  if (request.resident > 0) {
    add(fmt::format("{} bytes in memory", request.resident));
  }
  if (request.size > 0) {
    add(fmt::format("{} bytes of the file", request.size));
  }
  if (request.min_speed > 0) {
    add(fmt::format("{} tokens per second", request.min_speed));
  }
  return usage_error("no choice was found for {} together; relax one of them{}", limits,
                     request.min_speed > 0 ? ", such as --min-speed" : "");
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
  return too_small(PlanSpace(subject, curves, any_speed), any_speed);
}

namespace {

Result<PlanReport> make_plan(const PlanSubject& subject, LossMeter* meter, const Curves& curves,
                             const PlanRequest& request, uint64_t rounds) {
  const PlanSpace space(subject, curves, request);
  RWKV_ASSIGN(const std::optional<PlannedChoice> first, space.best());
  if (!first) {
    return no_choice(space, request);
  }
  PlanReport report;
  report.dense_loss = curves.dense;
  report.planned = *first;
  RWKV_ASSIGN(report.uniform, space.best_uniform());
  const bool may_interact = std::any_of(
      first->choice.matrices.begin(), first->choice.matrices.end(),
      [](const MatrixSetting& setting) { return setting.factor > 0 || is_lut(setting.codec); });
  Refiner refiner(subject, meter, curves, space);
  if (may_interact) {
    refiner.measure(report.planned);
    if (report.uniform && report.uniform->loss < report.planned.loss) {
      report.planned = *report.uniform;
    }
    RWKV_TRY(refiner.run(report.planned, rounds));
  } else {
    RWKV_TRY(refiner.run(report.planned, 0));
  }
  if (request.is_checked) {
    RWKV_TRY(check(subject, curves, request, refiner, report));
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

}  // namespace

Result<PlanReport> plan_for_budget(const PlanSubject& subject, LossMeter& meter,
                                   const Curves& curves, const PlanRequest& request,
                                   uint64_t rounds) {
  meter.set_method(curves.method);
  return make_plan(subject, &meter, curves, request, rounds);
}

Result<PlanReport> plan_by_estimates(const PlanSubject& subject, const Curves& curves,
                                     const PlanRequest& request) {
  return make_plan(subject, nullptr, curves, request, 0);
}

}  // namespace rwkv::press

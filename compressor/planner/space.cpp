#include "compressor/planner/space.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "formats/arch/access.h"

namespace rwkv::press {
namespace {

constexpr size_t kUnits = size_t{1} << 14;
constexpr int kCorrections = 6;
constexpr double kTightCache = 0.01;
constexpr double kCloseEnough = 0.001;  // of the budget left unused

// Up to the next hundredth: what people can read and type.
double cache_for(double share) {
  return std::min(1.0, std::max(kTightCache, std::ceil(share * 100) / 100));
}

// Names that convert stores in the file: of the model, and of the program's version.
constexpr uint64_t kNames = 256;

template <typename Option>
double loss_of(const std::vector<std::vector<Option>>& options, const std::vector<size_t>& picks) {
  double loss = 0;
  for (size_t i = 0; i < picks.size(); ++i) {
    loss += options[i][picks[i]].loss;
  }
  return loss;
}

// Without the points that lose as much or more than another one of at most their bytes: there are
// many, and the bytes of each take a plan of the whole model.
std::vector<std::vector<MatrixPoint>> worthwhile(
    const std::vector<PlannedMatrix>& matrices,
    const std::vector<std::vector<MatrixPoint>>& points) {
  std::vector<std::vector<MatrixPoint>> kept;
  for (size_t i = 0; i < points.size(); ++i) {
    std::vector<MatrixPoint> sorted = points[i];
    const auto bytes = [&](const MatrixPoint& point) {
      return encoded_bytes(matrices[i], point.setting);
    };
    std::stable_sort(sorted.begin(), sorted.end(), [&](const MatrixPoint& a, const MatrixPoint& b) {
      return std::pair(bytes(a), a.loss) < std::pair(bytes(b), b.loss);
    });
    auto& best = kept.emplace_back();
    for (const MatrixPoint& point : sorted) {
      if (best.empty() || point.loss < best.back().loss) {
        best.push_back(point);
      }
    }
  }
  return kept;
}

// Without predictors all of ffn.key is in memory and ffn.value alone, half of the rows' bytes, has
// a cache.
double neuron_share(const RowsPoint& ffn) {
  return ffn.value > 0 ? ffn.share : std::max(0.0, 2 * ffn.share - 1);
}

// Halves of predictors that did not help when they were fitted are not in the file.
void drop_unused_halves(PackPlan& plan, const RowsPoint& ffn) {
  std::erase_if(plan.tensors, [&](const PlannedTensor& tensor) {
    const TensorBinding& binding = tensor.binding;
    if (binding.block < 0 || static_cast<size_t>(binding.block) >= ffn.halves.size()) {
      return false;
    }
    const uint8_t halves = ffn.halves[static_cast<size_t>(binding.block)];
    return (binding.role == Role::SignBits && (halves & 1) == 0) ||
           (binding.role == Role::Predictor && (halves & 2) == 0);
  });
}

}  // namespace

PlanSpace::PlanSpace(const PlanSubject& subject, const Curves& curves, const PlanRequest& request)
    : subject_(subject),
      curves_(curves),
      request_(request),
      size_(subject.source, pack_options_of(subject)) {
  if (request.min_speed > 0) {
    most_touched_ = curves.speed.touched_at(request.min_speed);
  }
}

double PlanSpace::limit(Measure measure) const {
  switch (measure) {
    case Measure::Resident:
      return static_cast<double>(request_.resident);
    case Measure::File:
      return static_cast<double>(request_.size);
    case Measure::Touched:
      return most_touched_;
  }
  return 0;
}

bool PlanSpace::is_limited(Measure measure) const {
  return measure == Measure::Touched ? request_.min_speed > 0 : limit(measure) > 0;
}

bool PlanSpace::has_lora() const {
  return std::any_of(subject_.model.tensors.begin(), subject_.model.tensors.end(),
                     [](const TensorBinding& binding) { return binding.role == Role::Lora; });
}

std::vector<MemoryFrame> PlanSpace::frames(bool tight) const {
  std::vector<MemoryFrame> all;
  const bool any = !request_.mode;
  if (any || *request_.mode == edge::MemoryMode::Loaded) {
    MemoryFrame frame;
    frame.memory.mode = edge::MemoryMode::Loaded;
    frame.ffn = curves_.ffn.empty() ? RowsPoint{} : curves_.ffn.front();
    all.push_back(frame);
  }
  if (request_.read_ahead() > 0 && request_.resident > 0 &&
      (any || *request_.mode == edge::MemoryMode::Streamed)) {
    // With everything dense: rows on demand would want the same storage at the same time.
    MemoryFrame frame;
    frame.memory.mode = edge::MemoryMode::Streamed;
    frame.memory.limit = request_.resident;
    frame.memory.embedding_rows = request_.embedding_rows;
    frame.memory.stream.bytes_per_second = static_cast<uint64_t>(request_.read_speed);
    frame.read_ahead = request_.read_ahead();
    frame.ffn = curves_.ffn.empty() ? RowsPoint{} : curves_.ffn.front();
    all.push_back(frame);
  }
  if (any || *request_.mode == edge::MemoryMode::Sparse) {
    for (const RowsPoint& ffn : curves_.ffn) {
      for (const RowsPoint& head : curves_.head) {
        MemoryFrame frame;
        frame.memory.mode = edge::MemoryMode::Sparse;
        frame.memory.neuron_cache = tight ? kTightCache : cache_for(neuron_share(ffn));
        frame.memory.head_cache = tight ? kTightCache : cache_for(head.share);
        frame.memory.embedding_rows = tight ? 1 : request_.embedding_rows;
        frame.ffn = ffn;
        frame.head = head;
        all.push_back(frame);
      }
    }
  }
  return all;
}

Result<ChoiceBytes> PlanSpace::footprint(const Choice& choice, const MemoryFrame& frame) const {
  uint64_t file = 0;
  RWKV_ASSIGN(PackPlan plan, pack_plan_of(subject_, choice, size_, file));
  if (frame.ffn.value > 0) {
    drop_unused_halves(plan, frame.ffn);
  }
  RWKV_ASSIGN(ChoiceBytes result, held_bytes(plan, subject_.tokenizer_bytes, frame));
  result.file = file + kNames;
  for (const PlannedTensor& tensor : plan.tensors) {
    result.touched += bytes_read(role_traits(tensor.binding.role).access, tensor.encoded_bytes(),
                                 tensor.binding.packed_rows(), {frame.ffn.share, frame.head.share});
  }
  return result;
}

bool PlanSpace::fits(const ChoiceBytes& footprint, Measure measure) const {
  const double bytes = measure == Measure::Resident ? static_cast<double>(footprint.resident)
                                                    : footprint.of(measure);
  return !is_limited(measure) || bytes <= limit(measure);
}

bool PlanSpace::fits(const ChoiceBytes& footprint) const {
  return fits(footprint, Measure::Resident) && fits(footprint, Measure::File) &&
         fits(footprint, Measure::Touched);
}

Choice PlanSpace::choice_of(const MemoryFrame& frame,
                            const std::vector<std::vector<MatrixPoint>>& points,
                            const std::vector<size_t>& picks) const {
  Choice choice;
  choice.method = curves_.method;
  for (size_t i = 0; i < points.size(); ++i) {
    choice.matrices.push_back(points[i][picks[i]].setting);
  }
  choice.lora = curves_.lora[picks.size() > points.size() ? picks.back() : 0].codec;
  choice.recall = frame.ffn.value;
  choice.p_min = frame.head.value;
  return choice;
}

// Bytes of an option: how far they move when one matrix alone has it. Matrices of one shape and
// role move them alike.
Result<PlanSpace::Costs> PlanSpace::costs(
    const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points) const {
  Choice base = choice_of(frame, points, std::vector<size_t>(points.size()));
  for (size_t i = 0; i < points.size(); ++i) {
    const Codec coarsest = subject_.ladder.rungs_for(subject_.matrices[i].packed_cols()).back();
    base.matrices[i] = {0, coarsest};
  }
  RWKV_ASSIGN(const ChoiceBytes of_base, footprint(base, frame));
  const auto amounts = [](const ChoiceBytes& bytes) {
    return Amounts{additive(bytes), static_cast<double>(bytes.file), bytes.touched};
  };
  const Amounts start = amounts(of_base);
  const auto moved = [&](const Choice& choice) -> Result<Amounts> {
    RWKV_ASSIGN(const ChoiceBytes now, footprint(choice, frame));
    Amounts moved = amounts(now);
    for (size_t m = 0; m < kMeasures; ++m) {
      moved[m] -= start[m];
    }
    return moved;
  };
  Costs costs;
  costs.base = {of_base.of(Measure::Resident), of_base.of(Measure::File), of_base.touched};
  std::map<std::tuple<Role, uint64_t, uint64_t, double, Codec>, Amounts> known;
  for (size_t i = 0; i < points.size(); ++i) {
    const PlannedMatrix& matrix = subject_.matrices[i];
    auto& options = costs.options.emplace_back();
    for (const MatrixPoint& point : points[i]) {
      const auto key = std::tuple{matrix.role, matrix.rows, matrix.cols, point.setting.factor,
                                  point.setting.codec};
      if (!known.contains(key)) {
        Choice changed = base;
        changed.matrices[i] = point.setting;
        RWKV_ASSIGN(known[key], moved(changed));
      }
      options.push_back({point.loss, known[key]});
    }
  }
  if (has_lora()) {
    auto& options = costs.options.emplace_back();
    for (const LoraPoint& point : curves_.lora) {
      Choice changed = base;
      changed.lora = point.codec;
      RWKV_ASSIGN(const Amounts move, moved(changed));
      options.push_back({point.loss, move});
    }
  }
  return costs;
}

// Additive bytes are nearly but not quite the account: the capacity is corrected until the account
// itself is within the limit and near it.
Result<std::optional<PlannedChoice>> PlanSpace::solve(
    const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points,
    const Costs& costs, Measure hard, const Amounts& prices) const {
  const auto at = static_cast<size_t>(hard);
  std::vector<std::vector<KnapsackOption>> options;
  double fixed = costs.base[at];
  for (const std::vector<Moved>& all : costs.options) {
    double least = all.front().bytes[at];
    for (const Moved& option : all) {
      least = std::min(least, option.bytes[at]);
    }
    fixed += least;
    auto& listed = options.emplace_back();
    for (const Moved& option : all) {
      double loss = option.loss;
      for (size_t m = 0; m < kMeasures; ++m) {
        loss += prices[m] * option.bytes[m];
      }
      listed.push_back({static_cast<uint64_t>(option.bytes[at] - least), loss});
    }
  }
  const auto budget = static_cast<int64_t>(limit(hard));
  int64_t capacity = std::max<int64_t>(0, budget - static_cast<int64_t>(std::max(0.0, fixed)));
  std::optional<PlannedChoice> best;
  double best_value = 0;
  for (int i = 0; i < kCorrections; ++i) {
    const auto picks = choose_options(options, static_cast<uint64_t>(capacity), kUnits);
    if (!picks) {
      break;
    }
    PlannedChoice planned;
    planned.choice = choice_of(frame, points, *picks);
    planned.frame = frame;
    planned.loss = loss_of(costs.options, *picks) + frame.loss();
    RWKV_ASSIGN(planned.footprint, footprint(planned.choice, frame));
    const int64_t left = budget - static_cast<int64_t>(planned.footprint.of(hard));
    const double value = loss_of(options, *picks);
    if (left >= 0 && (!best || value < best_value)) {
      best = planned;
      best_value = value;
    }
    const int64_t next = std::max<int64_t>(0, capacity + left);
    if (next == capacity ||
        (left >= 0 && static_cast<double>(left) < kCloseEnough * static_cast<double>(budget))) {
      break;
    }
    capacity = next;
  }
  return best;
}

// Where another limit is broken, the bytes that it limits get a price (Lagrange), the least that
// brings them down; one limit after the other.
Result<std::optional<PlannedChoice>> PlanSpace::best_with(
    const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points,
    const Costs& costs, Measure hard) const {
  Amounts prices = {};
  RWKV_ASSIGN(std::optional<PlannedChoice> found, solve(frame, points, costs, hard, prices));
  for (const Measure measure : {Measure::Resident, Measure::File, Measure::Touched}) {
    if (!found || measure == hard || fits(found->footprint, measure)) {
      continue;
    }
    constexpr int kDoublings = 40;
    constexpr int kHalvings = 12;
    double low = 0;
    double high = 1e-12;
    double& price = prices[static_cast<size_t>(measure)];
    found.reset();
    for (int i = 0; i < kDoublings + kHalvings; ++i) {
      price = found ? (low + high) / 2 : high;
      RWKV_ASSIGN(const std::optional<PlannedChoice> now,
                  solve(frame, points, costs, hard, prices));
      if (now && fits(now->footprint, measure)) {
        found = !found || now->loss < found->loss ? now : found;
        high = price;
      } else if (found) {
        low = price;
      } else if (i >= kDoublings) {
        break;
      } else {
        low = high;
        high *= 2;
      }
    }
    price = high;
  }
  return found && fits(found->footprint) ? found : std::nullopt;
}

Result<std::optional<PlannedChoice>> PlanSpace::best_in(
    const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points) const {
  const auto considered = worthwhile(subject_.matrices, points);
  RWKV_ASSIGN(const Costs costs, this->costs(frame, considered));
  std::optional<PlannedChoice> best;
  for (const Measure hard : {Measure::Resident, Measure::File}) {
    if (is_limited(hard)) {
      RWKV_ASSIGN(const std::optional<PlannedChoice> found,
                  best_with(frame, considered, costs, hard));
      best = found && (!best || found->loss < best->loss) ? found : best;
    }
  }
  return best;
}

// Nothing is given up where nothing has to be: the first frame in which the dense model fits.
Result<std::optional<PlannedChoice>> PlanSpace::lossless() const {
  for (const MemoryFrame& frame : frames(/*tight=*/false)) {
    if (frame.ffn.value > 0 || frame.head.value > 0) {
      continue;
    }
    PlannedChoice planned;
    planned.frame = frame;
    planned.choice = lossless_choice(subject_);
    planned.choice.method = curves_.method;
    RWKV_ASSIGN(planned.footprint, footprint(planned.choice, frame));
    if (fits(planned.footprint)) {
      return std::optional<PlannedChoice>(planned);
    }
  }
  return std::optional<PlannedChoice>();
}

Result<std::optional<PlannedChoice>> PlanSpace::best() const {
  RWKV_ASSIGN(std::optional<PlannedChoice> best, lossless());
  if (best) {
    return best;
  }
  for (const bool tight : {false, true}) {
    for (const MemoryFrame& frame : frames(tight)) {
      RWKV_ASSIGN(const std::optional<PlannedChoice> found, best_in(frame, curves_.matrices));
      if (found && (!best || found->loss < best->loss)) {
        best = found;
      }
    }
    if (best) {
      break;
    }
  }
  return best;
}

Result<std::optional<PlannedChoice>> PlanSpace::best_uniform() const {
  std::optional<PlannedChoice> best;
  for (const MemoryFrame& frame : frames(/*tight=*/false)) {
    for (const UniformPoint& point : curves_.uniform) {
      PlannedChoice planned;
      planned.frame = frame;
      planned.choice.method = curves_.method;
      planned.choice.matrices = uniform_settings(subject_.matrices, point);
      planned.choice.lora = point.codec;
      planned.choice.recall = frame.ffn.value;
      planned.choice.p_min = frame.head.value;
      const LoraPoint& lora = curves_.lora_in(point.codec);
      planned.loss = point.loss + frame.loss() + lora.loss;
      planned.nats = point.nats + frame.nats() + lora.nats;
      if (best && planned.loss >= best->loss) {
        continue;
      }
      RWKV_ASSIGN(planned.footprint, footprint(planned.choice, frame));
      if (fits(planned.footprint)) {
        best = planned;
      }
    }
  }
  return best;
}

Result<PlannedChoice> PlanSpace::smallest(Measure measure) const {
  const auto at = static_cast<size_t>(measure);
  std::optional<PlannedChoice> least;
  for (const MemoryFrame& frame : frames(/*tight=*/true)) {
    const auto points = worthwhile(subject_.matrices, curves_.matrices);
    RWKV_ASSIGN(const Costs costs, this->costs(frame, points));
    std::vector<size_t> picks;
    for (const auto& options : costs.options) {
      const auto smallest = std::min_element(
          options.begin(), options.end(),
          [&](const Moved& a, const Moved& b) { return a.bytes[at] < b.bytes[at]; });
      picks.push_back(static_cast<size_t>(smallest - options.begin()));
    }
    PlannedChoice planned;
    planned.frame = frame;
    planned.choice = choice_of(frame, points, picks);
    RWKV_ASSIGN(planned.footprint, footprint(planned.choice, frame));
    const auto bytes = [&](const PlannedChoice& choice) {
      return measure == Measure::Resident ? static_cast<double>(choice.footprint.resident)
                                          : choice.footprint.of(measure);
    };
    if (!least || bytes(planned) < bytes(*least)) {
      least = planned;
    }
  }
  return *least;
}

}  // namespace rwkv::press

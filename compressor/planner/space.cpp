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

double loss_of(const std::vector<std::vector<KnapsackOption>>& options,
               const std::vector<size_t>& picks) {
  double loss = 0;
  for (size_t i = 0; i < picks.size(); ++i) {
    loss += options[i][picks[i]].loss;
  }
  return loss;
}

// Without predictors all of ffn.key is in memory and ffn.value alone, half of the rows' bytes, has
// a cache.
double neuron_share(const RowsPoint& ffn) {
  return ffn.value > 0 ? ffn.share : std::max(0.0, 2 * ffn.share - 1);
}

// What additive costs leave out: shared by all matrices and the largest of several.
uint64_t additive(const edge::Account& account) {
  return account.total() - account.at(edge::Component::Scratch).resident -
         account.at(edge::Component::Staging).resident;
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
    : subject_(subject), curves_(curves), request_(request) {
  if (request.min_speed > 0) {
    most_touched_ = curves.speed.touched_at(request.min_speed);
  }
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
  RWKV_ASSIGN(PackPlan plan, pack_plan_of(subject_, choice));
  if (frame.ffn.value > 0) {
    drop_unused_halves(plan, frame.ffn);
  }
  ChoiceBytes result;
  RWKV_ASSIGN(result.account, planned_account(plan, subject_.tokenizer_bytes, frame.memory));
  result.resident = result.account.total();
  for (const PlannedTensor& tensor : plan.tensors) {
    result.touched += bytes_read(role_traits(tensor.binding.role).access, tensor.encoded_bytes(),
                                 tensor.binding.packed_rows(), {frame.ffn.share, frame.head.share});
  }
  return result;
}

bool PlanSpace::fits(const ChoiceBytes& footprint) const {
  return footprint.resident <= request_.resident &&
         (request_.min_speed == 0 || footprint.touched <= most_touched_);
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

// Bytes of an option: how far the account moves when one matrix alone has it. Matrices of one shape
// and role move it alike.
Result<PlanSpace::Costs> PlanSpace::costs(
    const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points) const {
  Choice base = choice_of(frame, points, std::vector<size_t>(points.size()));
  base.matrices.assign(points.size(), {0, subject_.ladder.coarsest()});
  RWKV_ASSIGN(const ChoiceBytes of_base, footprint(base, frame));
  std::map<std::tuple<Role, uint64_t, uint64_t, double, Codec>, std::pair<int64_t, double>> known;
  const auto moved = [&](Choice& choice) -> Result<std::pair<int64_t, double>> {
    RWKV_ASSIGN(const ChoiceBytes now, footprint(choice, frame));
    return std::pair{static_cast<int64_t>(additive(now.account)) -
                         static_cast<int64_t>(additive(of_base.account)),
                     now.touched - of_base.touched};
  };
  Costs costs;
  std::vector<std::vector<int64_t>> moves;
  for (size_t i = 0; i < points.size(); ++i) {
    const PlannedMatrix& matrix = subject_.matrices[i];
    auto& options = costs.options.emplace_back();
    auto& touched = costs.touched.emplace_back();
    auto& bytes = moves.emplace_back();
    for (const MatrixPoint& point : points[i]) {
      const auto key = std::tuple{matrix.role, matrix.rows, matrix.cols, point.setting.factor,
                                  point.setting.codec};
      if (!known.contains(key)) {
        Choice changed = base;
        changed.matrices[i] = point.setting;
        RWKV_ASSIGN(known[key], moved(changed));
      }
      bytes.push_back(known[key].first);
      touched.push_back(known[key].second);
      options.push_back({0, point.loss});
    }
  }
  if (has_lora()) {
    auto& options = costs.options.emplace_back();
    auto& touched = costs.touched.emplace_back();
    auto& bytes = moves.emplace_back();
    for (const LoraPoint& point : curves_.lora) {
      Choice changed = base;
      changed.lora = point.codec;
      RWKV_ASSIGN(const auto move, moved(changed));
      bytes.push_back(move.first);
      touched.push_back(move.second);
      options.push_back({0, point.loss});
    }
  }
  auto fixed = static_cast<int64_t>(of_base.resident);
  for (size_t i = 0; i < moves.size(); ++i) {
    const int64_t least = *std::min_element(moves[i].begin(), moves[i].end());
    fixed += least;
    for (size_t o = 0; o < moves[i].size(); ++o) {
      costs.options[i][o].bytes = static_cast<uint64_t>(moves[i][o] - least);
    }
  }
  costs.fixed = static_cast<uint64_t>(std::max<int64_t>(0, fixed));
  return costs;
}

// Additive bytes are nearly but not quite the account: the capacity is corrected until the account
// itself is within the budget and near it.
Result<std::optional<PlannedChoice>> PlanSpace::solve(
    const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points,
    const Costs& costs, double weight) const {
  std::vector<std::vector<KnapsackOption>> options = costs.options;
  for (size_t i = 0; i < options.size(); ++i) {
    for (size_t o = 0; o < options[i].size(); ++o) {
      options[i][o].loss += weight * costs.touched[i][o];
    }
  }
  const auto budget = static_cast<int64_t>(request_.resident);
  int64_t capacity = std::max<int64_t>(0, budget - static_cast<int64_t>(costs.fixed));
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
    const int64_t left = budget - static_cast<int64_t>(planned.footprint.resident);
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

Result<std::optional<PlannedChoice>> PlanSpace::best_in(
    const MemoryFrame& frame, const std::vector<std::vector<MatrixPoint>>& points) const {
  RWKV_ASSIGN(const Costs costs, this->costs(frame, points));
  RWKV_ASSIGN(std::optional<PlannedChoice> found, solve(frame, points, costs, 0));
  if (!found || fits(found->footprint)) {
    return found;
  }
  // Too much is touched: bytes touched get a price (Lagrange), the least that brings it down.
  constexpr int kDoublings = 40;
  constexpr int kHalvings = 12;
  double low = 0;
  double high = 1e-12;
  found.reset();
  for (int i = 0; i < kDoublings + kHalvings; ++i) {
    const double weight = found ? (low + high) / 2 : high;
    RWKV_ASSIGN(const std::optional<PlannedChoice> now, solve(frame, points, costs, weight));
    if (now && fits(now->footprint)) {
      found = !found || now->loss < found->loss ? now : found;
      high = weight;
    } else if (found) {
      low = weight;
    } else if (i >= kDoublings) {
      break;
    } else {
      low = high;
      high *= 2;
    }
  }
  return found;
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

Result<PlannedChoice> PlanSpace::smallest() const {
  std::optional<PlannedChoice> least;
  for (const MemoryFrame& frame : frames(/*tight=*/true)) {
    RWKV_ASSIGN(const Costs costs, this->costs(frame, curves_.matrices));
    std::vector<size_t> picks;
    for (const auto& options : costs.options) {
      const auto smallest = std::min_element(
          options.begin(), options.end(),
          [](const KnapsackOption& a, const KnapsackOption& b) { return a.bytes < b.bytes; });
      picks.push_back(static_cast<size_t>(smallest - options.begin()));
    }
    PlannedChoice planned;
    planned.frame = frame;
    planned.choice = choice_of(frame, curves_.matrices, picks);
    RWKV_ASSIGN(planned.footprint, footprint(planned.choice, frame));
    if (!least || planned.footprint.resident < least->footprint.resident) {
      least = planned;
    }
  }
  return *least;
}

}  // namespace rwkv::press

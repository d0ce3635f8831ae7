#include "compressor/predictors/thresholds.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/predictors/checks.h"

namespace rwkv::press {
namespace {

constexpr float kEverything = std::numeric_limits<float>::lowest();
constexpr float kNothing = std::numeric_limits<float>::max();

// Scores of a half, [tokens * neurons] in the order of the shares; null if the half is not there.
struct Problem {
  int64_t tokens = 0;
  int64_t size = 0;
  const float* shares = nullptr;
  const float* sign = nullptr;
  const float* mlp = nullptr;
  double target = 0;

  double recall(double missed) const { return 1 - missed / static_cast<double>(tokens); }
};

constexpr int64_t kParts = 16;               // of a table of all elements
constexpr int64_t kTile = int64_t{1} << 17;  // elements that are summed up by one thread

// What `of_tile(begin, end)` returns for the tiles of all elements, added up in their order.
template <typename T, typename OfTile>
T sum_of_tiles(int64_t size, const OfTile& of_tile) {
  std::vector<T> parts(static_cast<size_t>((size + kTile - 1) / kTile));
  in_tiles(size, kTile, [&](int64_t begin, int64_t end) {
    parts[static_cast<size_t>(begin / kTile)] = of_tile(begin, end);
  });
  T sum = {};
  for (const T& part : parts) {
    sum += part;
  }
  return sum;
}

// Floats as integers of the same order, so that bisection ends at neighbours.
int64_t to_ordinal(float value) {
  const auto bits = std::bit_cast<int32_t>(value);
  return bits >= 0 ? bits : -static_cast<int64_t>(bits & 0x7fffffff);
}

float from_ordinal(int64_t ordinal) {
  const auto bits = static_cast<uint32_t>(ordinal > 0 ? ordinal : -ordinal);
  return std::bit_cast<float>(ordinal >= 0 ? bits : bits | 0x80000000u);
}

// The highest threshold on `scores` that reaches the target while the other half stays at its own.
float highest_threshold(const Problem& problem, const float* scores, const float* other,
                        float other_threshold) {
  // Score and share of what the other half leaves out, tile by tile.
  std::vector<std::vector<std::pair<float, float>>> open(
      static_cast<size_t>((problem.size + kTile - 1) / kTile));
  in_tiles(problem.size, kTile, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (problem.shares[i] > 0 && !(other && other[i] > other_threshold)) {
        open[static_cast<size_t>(begin / kTile)].emplace_back(scores[i], problem.shares[i]);
      }
    }
  });
  const auto reaches = [&](float threshold) {
    const auto missed = sum_of_tiles<double>(problem.size, [&](int64_t begin, int64_t /*end*/) {
      double of_tile = 0;
      for (const auto& [score, share] : open[static_cast<size_t>(begin / kTile)]) {
        of_tile += score > threshold ? 0.0 : share;
      }
      return of_tile;
    });
    return problem.recall(missed) >= problem.target;
  };
  int64_t low = to_ordinal(kEverything);
  int64_t high = to_ordinal(kNothing);
  if (reaches(kNothing)) {
    return kNothing;
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (reaches(from_ordinal(middle)) ? low : high) = middle;
  }
  return from_ordinal(low);
}

Thresholds measure(const Problem& problem, float sign, float mlp) {
  struct Sums {
    double missed = 0;
    int64_t named = 0;
    void operator+=(const Sums& other) {
      missed += other.missed;
      named += other.named;
    }
  };
  const auto sums = sum_of_tiles<Sums>(problem.size, [&](int64_t begin, int64_t end) {
    Sums of_tile;
    for (int64_t i = begin; i < end; ++i) {
      const bool is_named =
          (problem.sign && problem.sign[i] > sign) || (problem.mlp && problem.mlp[i] > mlp);
      of_tile.named += is_named;
      of_tile.missed += is_named ? 0.0 : problem.shares[i];
    }
    return of_tile;
  });
  Thresholds result;
  result.sign = sign;
  result.mlp = mlp;
  result.recall = problem.recall(sums.missed);
  result.loaded = static_cast<double>(sums.named) / static_cast<double>(problem.size);
  return result;
}

// Candidate thresholds of a half in ascending order; the first names everything, the last nothing.
using Edges = std::vector<float>;

Edges finish(Edges edges) {
  edges.push_back(kEverything);
  edges.push_back(kNothing);
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
}

Edges quantile_edges(const float* scores, int64_t size) {
  constexpr int64_t kSample = 1 << 16;
  constexpr size_t kQuantiles = 96;
  // A stride without small factors: rows are neurons, and a stride that divides their number would
  // see only a few of them.
  const int64_t stride = size <= kSample ? 1 : (size / kSample) | 1;
  std::vector<float> sample;
  for (int64_t i = 0; i < size; i += stride) {
    sample.push_back(scores[i]);
  }
  std::sort(sample.begin(), sample.end());
  Edges edges;
  for (size_t q = 0; q <= kQuantiles; ++q) {
    edges.push_back(sample[(sample.size() - 1) * q / kQuantiles]);
  }
  return finish(std::move(edges));
}

// Evenly spaced candidates between the neighbours of edges[at], which may be where the best lies.
Edges refine(const Edges& edges, size_t at) {
  constexpr int kSteps = 64;
  const size_t last_score = edges.size() - 2;  // what lies outside is no score
  const float low = edges[std::min(at > 1 ? at - 1 : 1, last_score)];
  const float high = edges[std::min(at + 1, last_score)];
  Edges finer = {edges[at]};
  for (int step = 0; step <= kSteps; ++step) {
    const float part = static_cast<float>(step) / kSteps;
    finer.push_back(low * (1 - part) + high * part);
  }
  return finish(std::move(finer));
}

// How many edges lie below a score: a table of even cells says where to begin.
class EdgeFinder {
 public:
  explicit EdgeFinder(const Edges& edges)
      : edges_(edges),
        low_(edges[std::min<size_t>(1, edges.size() - 1)]),
        scale_(kCells / std::max(edges[edges.size() - 2] - low_, kLeastSpan)),
        begin_(kCells, 0) {
    // What lies in a lower cell is less.
    for (const float edge : edges) {
      for (size_t cell = cell_of(edge) + 1; cell < kCells; ++cell) {
        ++begin_[cell];
      }
    }
  }

  size_t below(float score) const {
    size_t at = begin_[cell_of(score)];
    while (at < edges_.size() && edges_[at] < score) {
      ++at;
    }
    return at;
  }

 private:
  static constexpr size_t kCells = 1024;
  static constexpr float kLeastSpan = 1e-30f;

  // Never descends as scores ascend.
  size_t cell_of(float score) const {
    const float at = (score - low_) * scale_;
    return at >= static_cast<float>(kCells - 1) ? kCells - 1 : at > 0 ? static_cast<size_t>(at) : 0;
  }

  const Edges& edges_;
  float low_, scale_;
  std::vector<size_t> begin_;
};

// Numbers and energy of the elements between the edges of both halves, summed from the lower left:
// what a pair of edges leaves out.
struct Table {
  size_t width;
  std::vector<double> count;
  std::vector<double> energy;
};

Table tabulate(const Problem& problem, const Edges& sign, const Edges& mlp) {
  // One row and column more than edges for what is above the last, which nothing finite is.
  Table table{mlp.size() + 1, {}, {}};
  const size_t height = sign.size() + 1;
  const size_t n_cells = height * table.width;
  const EdgeFinder signs(sign);
  const EdgeFinder mlps(mlp);
  // Some parts, each with a table of its own, so that few tables are added up.
  const int64_t part = std::max(kTile, (problem.size + kParts - 1) / kParts);
  std::vector<Table> tables(static_cast<size_t>((problem.size + part - 1) / part), table);
  in_tiles(problem.size, part, [&](int64_t begin, int64_t end) {
    Table& own = tables[static_cast<size_t>(begin / part)];
    own.count.resize(n_cells);
    own.energy.resize(n_cells);
    for (int64_t i = begin; i < end; ++i) {
      const size_t cell = signs.below(problem.sign[i]) * table.width + mlps.below(problem.mlp[i]);
      own.count[cell] += 1;
      own.energy[cell] += problem.shares[i];
    }
  });
  table.count.resize(n_cells);
  table.energy.resize(n_cells);
  for (const Table& own : tables) {
    for (size_t cell = 0; cell < n_cells; ++cell) {
      table.count[cell] += own.count[cell];
      table.energy[cell] += own.energy[cell];
    }
  }
  for (std::vector<double>* sums : {&table.count, &table.energy}) {
    for (size_t cell = 0; cell < sums->size(); ++cell) {
      (*sums)[cell] += cell % table.width > 0 ? (*sums)[cell - 1] : 0.0;
    }
    for (size_t cell = table.width; cell < sums->size(); ++cell) {
      (*sums)[cell] += (*sums)[cell - table.width];
    }
  }
  return table;
}

// Indices of the pair of edges that leaves out most neurons and reaches the target.
std::pair<size_t, size_t> best_pair(const Problem& problem, const Edges& sign, const Edges& mlp) {
  const Table table = tabulate(problem, sign, mlp);
  std::pair<size_t, size_t> best = {0, 0};  // everything is named
  double most = -1;
  for (size_t s = 0; s < sign.size(); ++s) {
    for (size_t m = 0; m < mlp.size(); ++m) {
      const size_t cell = s * table.width + m;
      if (table.count[cell] > most && problem.recall(table.energy[cell]) >= problem.target) {
        most = table.count[cell];
        best = {s, m};
      }
    }
  }
  return best;
}

Thresholds search_both(const Problem& problem) {
  Edges sign = quantile_edges(problem.sign, problem.size);
  Edges mlp = quantile_edges(problem.mlp, problem.size);
  const auto [coarse_s, coarse_m] = best_pair(problem, sign, mlp);
  sign = refine(sign, coarse_s);
  mlp = refine(mlp, coarse_m);
  const float on_grid = sign[best_pair(problem, sign, mlp).first];
  // What the grid's steps leave unused of the allowed loss goes to the MLP, then to the bits.
  const float exact_mlp = highest_threshold(problem, problem.mlp, problem.sign, on_grid);
  const float exact_sign = highest_threshold(problem, problem.sign, problem.mlp, exact_mlp);
  return measure(problem, exact_sign, exact_mlp);
}

Status check(const at::Tensor& keys, const at::Tensor& norms, const PredictorScores& scores,
             double target) {
  RWKV_TRY(check_target(target));
  RWKV_TRY(check_matrix(keys, "key outputs", "[tokens, neurons]"));
  RWKV_TRY(check_norms(norms, keys.size(1)));
  if (!scores.sign.defined() && !scores.mlp.defined()) {
    return usage_error("thresholds: no scores of either half; expected at least one");
  }
  for (const auto& [half, name] :
       {std::pair{&scores.sign, "sign scores"}, std::pair{&scores.mlp, "MLP scores"}}) {
    if (!half->defined()) {
      continue;
    }
    RWKV_TRY(check_matrix(*half, name, "[tokens, neurons]"));
    if (half->sizes() != keys.sizes()) {
      return usage_error("{} are {} x {}, expected {} x {} as the key outputs", name, half->size(0),
                         half->size(1), keys.size(0), keys.size(1));
    }
  }
  return {};
}

}  // namespace

at::Tensor energy_shares(const at::Tensor& key_outputs, const at::Tensor& value_norms) {
  constexpr double kTiny = 1e-30;
  // The largest of a token becomes 1 before the last square, so that nothing overflows.
  at::Tensor shares = at::relu(key_outputs).square_().mul_(value_norms);
  shares.div_(shares.amax(1, true).clamp_min_(kTiny)).square_();
  return shares.div_(shares.sum(1, true).clamp_min_(kTiny));
}

Result<Thresholds> calibrate_thresholds(const at::Tensor& key_outputs,
                                        const at::Tensor& value_norms,
                                        const PredictorScores& scores, double target,
                                        const HalfCosts& costs) {
  RWKV_TRY(check(key_outputs, value_norms, scores, target));
  const at::Tensor shares = energy_shares(key_outputs, value_norms).contiguous();
  const at::Tensor sign = scores.sign.defined() ? scores.sign.contiguous() : scores.sign;
  const at::Tensor mlp = scores.mlp.defined() ? scores.mlp.contiguous() : scores.mlp;
  Problem problem;
  problem.tokens = shares.size(0);
  problem.size = shares.numel();
  problem.shares = shares.data_ptr<float>();
  problem.sign = sign.defined() ? sign.data_ptr<float>() : nullptr;
  problem.mlp = mlp.defined() ? mlp.data_ptr<float>() : nullptr;
  problem.target = target;

  std::optional<Thresholds> best;
  const auto offer = [&](Thresholds candidate) {
    candidate.cost = candidate.loaded + (candidate.sign < kNothing ? costs.sign : 0) +
                     (candidate.mlp < kNothing ? costs.mlp : 0);
    if (!best || candidate.cost < best->cost) {
      best = candidate;
    }
  };
  if (problem.sign) {
    offer(measure(problem, highest_threshold(problem, problem.sign, nullptr, 0), kNothing));
  }
  if (problem.mlp) {
    offer(measure(problem, kNothing, highest_threshold(problem, problem.mlp, nullptr, 0)));
  }
  if (problem.sign && problem.mlp) {
    offer(search_both(problem));
  }
  best->active = at::gt(key_outputs, 0).sum().item<double>() / static_cast<double>(problem.size);
  return *best;
}

}  // namespace rwkv::press

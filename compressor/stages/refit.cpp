// Stage `refit`: training-free recovery. Block by block, each factor pair is fitted by least
// squares: from the inputs that the compressed model really has, to the outputs that the original
// projection gives on the original activations. This corrects errors of earlier blocks as far as a
// linear map can. With C = E[y x^T] (y the original's output, x the compressed model's input)
// and H = E[x x^T], the best matrix of full rank is M = C H^-1, and the best pair (with a diagonal)
// is the one that is closest to M over inputs with moments H (reduced-rank regression, Izenman
// 1975).
#include "compressor/stages/refit.h"

#include <algorithm>
#include <map>

#include "compressor/low_rank/factorise.h"
#include "compressor/model/needs.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {
namespace {

// Sums over tokens for one product.
struct Sums {
  at::Tensor inputs;   ///< sum of x x^T
  at::Tensor outputs;  ///< sum of y x^T
  double energy = 0;   ///< sum of |y|^2
  double error = 0;    ///< sum of |y - pair(x)|^2, before
  int64_t n = 0;

  void add(const at::Tensor& x, const at::Tensor& y, const at::Tensor& now) {
    const at::Tensor xx = at::mm(x.t(), x);
    const at::Tensor yx = at::mm(y.t(), x);
    inputs = inputs.defined() ? inputs.add_(xx) : xx;
    outputs = outputs.defined() ? outputs.add_(yx) : yx;
    energy += y.square().sum(at::kDouble).item<double>();
    error += (y - now).square().sum(at::kDouble).item<double>();
    n += x.size(0);
  }
};

class RefitStage final : public Stage {
 public:
  const char* name() const override { return "refit"; }
  Settings settings() override {
    return {name(), {setting::count("rounds", rounds_, 1, 1000, "of the diagonal's improvement")}};
  }
  Status plan(PackPlan& plan) const override;
  bool needs_calibration() const override { return true; }
  bool recovers() const override { return true; }
  Needs needs(const StageSubject& subject) const override;
  Status run(Work& work) const override;

 private:
  Status fit(Work& work, const std::string& stem, const Sums& sums, Linear& pair, double& before,
             double& after) const;
  uint64_t rounds_ = 8;
};

Status RefitStage::plan(PackPlan& plan) const {
  if (plan.config.low_rank != LowRankForm::Linear) {
    return usage_error("refit needs linear factor pairs, which low_rank makes; this model has {}",
                       low_rank_form_name(plan.config.low_rank));
  }
  return {};
}

// Two models walk, each observed for both halves of a block and then moved on; sums of inputs and
// outputs of each pair, a solution in double, and a pair.
Needs RefitStage::needs(const StageSubject& subject) const {
  constexpr double kPasses = 3;
  constexpr double kSolve = 8;
  Needs needs = walk_needs(subject);
  const Needs teacher =
      walk_needs({subject.original, subject.original, subject.tokens, false, false});
  // One of them computes at a time.
  constexpr uint64_t kBatchTokens = 4096;  // as in compressor/calibrate/walk
  needs.memory += teacher.memory -
                  forward_bytes(subject.original.config, std::min(kBatchTokens, subject.tokens));
  needs.files += teacher.files;
  needs.parallel += teacher.parallel;
  needs.serial += needs.parallel * (kPasses - 1);
  uint64_t largest = 0;
  for (const PlannedTensor& tensor : subject.plan.tensors) {
    if (tensor.binding.part != Part::FactorB || tensor.binding.shape.size() != 2) {
      continue;
    }
    const auto rows = static_cast<int64_t>(tensor.binding.shape[0]);
    const auto n = static_cast<double>(rows);
    needs.parallel.products += 4 * static_cast<double>(subject.tokens) * n * n + kSolve * n * n * n;
    needs.parallel += factorise_effort(rows, static_cast<int64_t>(tensor.binding.shape[1]));
    largest = std::max(largest, factorise_bytes(rows, rows));
    needs.disk += sizeof(float) * 2 * tensor.binding.shape[0] * tensor.binding.shape[1];
  }
  constexpr uint64_t kPairsOfHalf = 5;
  needs.memory += kPairsOfHalf * largest / 2;
  needs.leaves_hidden = true;
  return needs;
}

// Error of `pair` as a share of the outputs' energy: |y|^2 - 2 <C, P> + <P H, P>.
double share_of_error(const at::Tensor& product, const Sums& sums) {
  const at::Tensor p = product.to(at::kDouble);
  const double cross = (p * sums.outputs.to(at::kDouble)).sum().item<double>();
  const double own = (at::mm(p, sums.inputs.to(at::kDouble)) * p).sum().item<double>();
  return (sums.energy - 2 * cross + own) / sums.energy;
}

Status RefitStage::fit(Work& work, const std::string& stem, const Sums& sums, Linear& pair,
                       double& before, double& after) const {
  const at::Tensor h = with_floor(sums.inputs / static_cast<double>(sums.n));
  const at::Tensor c = sums.outputs / static_cast<double>(sums.n);
  const at::Tensor best =
      at::linalg_solve(h.to(at::kDouble), c.t().to(at::kDouble)).t().to(at::kFloat).contiguous();
  const int64_t rank = pair.factor_a.size(0);
  const Factors factors =
      pair.diagonal.defined()
          ? factorise_with_diagonal(best, h, rank, static_cast<int64_t>(rounds_), work.seed)
          : factorise(best, h, rank, work.seed);
  const double old_share = sums.error / sums.energy;
  const double new_share = share_of_error(factors.product(), sums);
  before += old_share;
  after += std::min(old_share, new_share);
  work.errors[stem + ".weight"] = std::min(old_share, new_share);
  if (!(new_share < old_share)) {
    return {};  // the old pair is as good
  }
  pair = {{}, factors.a, factors.b, factors.diagonal, false};
  RWKV_TRY(work.replace(stem + "1.weight", factors.a));
  RWKV_TRY(work.replace(stem + "2.weight", factors.b));
  return pair.diagonal.defined() ? work.replace(stem + "_diag", factors.diagonal) : Status();
}

// Inputs and target outputs of the pairs in one half of a block ("att.", "ffn."), over all tokens.
std::map<std::string, Sums> compare(Walk& theirs, const Block& teacher, Walk& ours,
                                    const Block& student, const char* half) {
  std::map<std::string, Sums> sums;
  for (const auto& [product, linear] : student.linears) {
    if (product.starts_with(half) && linear.is_pair() && !teacher.linears.at(product).is_pair()) {
      sums[product];
    }
  }
  Walk::Products products;
  for (const auto& [product, sum] : sums) {
    products.push_back(product);
  }
  for (size_t batch = 0; batch < ours.n_batches() && !sums.empty(); ++batch) {
    std::map<std::string, at::Tensor> outputs;
    theirs.observe(teacher, batch, products, [&](const std::string& product, const at::Tensor& x) {
      outputs[product] = teacher.linears.at(product).apply(x);
    });
    ours.observe(student, batch, products, [&](const std::string& product, const at::Tensor& x) {
      sums.at(product).add(x, outputs.at(product), student.linears.at(product).apply(x));
    });
  }
  return sums;
}

Status RefitStage::run(Work& work) const {
  const ModelConfig config = work.plan.config;
  RWKV_ASSIGN(Walk theirs,
              Walk::begin(work.original, work.original_model.config, work.calibration->tokens));
  double before = 0;
  double after = 0;
  int64_t n_pairs = 0;
  const BlockWalk walk{.source = *work.source,
                       .config = config,
                       .calibration = &*work.calibration,
                       .activations = Activations::AfterChanges,
                       .progress = [&](Share share) { work.progress(name(), share); }};
  const auto visit = [&](BlockVisit& here) -> Status {
    RWKV_ASSIGN(const auto teacher,
                Block::load(work.original, work.original_model.config, here.index));
    // time_mix first: channel_mix's inputs depend on it.
    for (const char* half : {"att.", "ffn."}) {
      for (const auto& [product, sums] : compare(theirs, *teacher, *here.walk, here.block, half)) {
        RWKV_TRY(fit(work, fmt::format("blocks.{}.{}", here.index, product), sums,
                     here.block.linears.at(product), before, after));
        ++n_pairs;
      }
    }
    theirs.advance(*teacher, {});
    return {};
  };
  RWKV_ASSIGN(work.hidden, walk.run(visit));
  const double n = static_cast<double>(std::max<int64_t>(1, n_pairs));
  work.report(
      fmt::format("refit: {} pairs, {:.2f} % of the original's output energy lost on "
                  "average, {:.2f} % before",
                  n_pairs, 100 * after / n, 100 * before / n));
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_refit_stage() {
  return std::make_unique<RefitStage>();
}

}  // namespace rwkv::press

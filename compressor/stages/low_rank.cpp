// Stage `low_rank` (RWKV-Lite, arXiv 2412.10856, section "low-rank projections"): W ~ B A, by the
// plain SVD as there, or so that the error of the outputs over calibration text is least. With
// `sequential`, each block is fitted to the outputs of the compressed blocks before it.
// Projections that are already pairs (x058, x059) do not change.
#include "compressor/stages/low_rank.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "compressor/low_rank/factorise.h"
#include "compressor/low_rank/ranks.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {
namespace {

constexpr std::array<const char*, 2> kMethods = {"svd", "whitened"};
constexpr std::array<const char*, 3> kAllocations = {"uniform", "energy", "budget"};
constexpr const char* kWeightSuffix = ".weight";

enum class Allocation : uint8_t { Uniform, Energy, Budget };

// A projection that becomes a pair.
struct Target {
  int64_t block;
  std::string product;  ///< within the block: "att.key"
  std::string stem;     ///< "blocks.3.att.key"
  int64_t rows, cols;
  int64_t rank;  ///< planned, or the largest
};

class LowRankStage final : public Stage {
 public:
  const char* name() const override { return "low_rank"; }
  Settings settings() override;
  Status plan(PackPlan& plan) const override;
  bool needs_calibration() const override { return is_whitened(); }
  Needs needs(const StageSubject& subject) const override;
  Status run(Work& work) const override;

 protected:
  Status settle(const YAML::Node& given) override;

 private:
  bool is_whitened() const { return method_ == 1; }
  Allocation allocation() const { return static_cast<Allocation>(allocation_); }
  Result<std::vector<Target>> targets(const PackPlan& plan) const;
  Result<int64_t> planned_rank(const PlannedTensor& tensor) const;
  void replace(PackPlan& plan, const Target& target, int64_t rank) const;
  Status choose_ranks(Work& work, std::vector<Target>& targets) const;
  Status each_target(Work& work, const std::vector<Target>& targets, bool is_sequential,
                     const std::function<Status(const Target&, Linear&, const at::Tensor&)>& use,
                     const char* what) const;
  Factors factors_of(const at::Tensor& w, const at::Tensor& h, const Target& target,
                     const Work& work) const;

  size_t method_ = 1;
  size_t allocation_ = 0;
  double factor_ = 8;
  double keep_ = 0.25;
  bool diagonal_ = false;
  bool sequential_ = true;
  std::vector<std::string> matrices_ = {"att.receptance", "att.key", "att.value", "att.gate",
                                        "ffn.receptance"};
  bool matrices_named_ = false;
  std::vector<Override<double>> overrides_;
  uint64_t rounds_ = 8;
};

Settings LowRankStage::settings() {
  using namespace setting;
  return {name(),
          {
              choice("method", method_, kMethods,
                     "svd: of the weights alone; whitened: of the outputs over text"),
              real("factor", factor_, 1, 1e6, "compression factor k: rank n_embd / k"),
              choice("allocation", allocation_, kAllocations,
                     "uniform: the factor; energy: the least rank that keeps `keep` of the output "
                     "energy; budget: ranks that share `keep` of the parameters"),
              real("keep", keep_, 1e-6, 1.0, "for energy and budget"),
              flag("diagonal", diagonal_, "add a diagonal to the pair"),
              flag("sequential", sequential_,
                   "fit each block to what the compressed blocks before it produce")
                  .shown_if(is_whitened()),
              texts("matrices", matrices_,
                    "which projections; those that the version does not have are passed over")
                  .shown_if(matrices_named_),
              count("rounds", rounds_, 1, 1000, "of the diagonal's improvement"),
              overrides<double>(
                  "overrides", overrides_,
                  [](double& value) { return real("factor", value, 0, 1e6, "0: stays dense"); },
                  "the last match wins"),
          }};
}

Status LowRankStage::settle(const YAML::Node& given) {
  if (!given["sequential"]) {
    // A stage that uses only weights needs no text unless the recipe says so.
    sequential_ = is_whitened();
  }
  matrices_named_ = static_cast<bool>(given["matrices"]);
  if (sequential_ && !is_whitened()) {
    return usage_error("low_rank.sequential has no effect with method svd; remove it");
  }
  return {};
}

// 0: stays dense.
Result<int64_t> LowRankStage::planned_rank(const PlannedTensor& tensor) const {
  const std::string& name = tensor.binding.name;
  double factor = factor_;
  for (const Override<double>& override : overrides_) {
    factor = ::fnmatch(override.match.c_str(), name.c_str(), 0) == 0 ? override.value : factor;
  }
  if (factor == 0) {
    return int64_t{0};
  }
  const uint64_t full = std::min(tensor.binding.shape[0], tensor.binding.shape[1]);
  if (allocation() != Allocation::Uniform) {
    return static_cast<int64_t>(full);
  }
  const double rank = static_cast<double>(full) / factor;
  if (rank > static_cast<double>(full)) {
    return usage_error(
        "low_rank.factor {} gives rank {:.0f} for '{}', which has {}; a factor of 1 keeps all",
        factor, rank, name, full);
  }
  return std::max<int64_t>(1, static_cast<int64_t>(rank));
}

Result<std::vector<Target>> LowRankStage::targets(const PackPlan& plan) const {
  std::vector<Target> found;
  std::vector<bool> used(matrices_.size());
  for (const PlannedTensor& tensor : plan.tensors) {
    const TensorBinding& binding = tensor.binding;
    if ((role_traits(binding.role).techniques & kLowRank) == 0) {
      continue;
    }
    const std::string prefix = fmt::format("blocks.{}.", binding.block);
    for (size_t i = 0; i < matrices_.size(); ++i) {
      const std::string stem = prefix + matrices_[i];
      if (binding.name == stem + "1.weight") {
        used[i] = true;  // a pair already
      }
      if (binding.name != stem + kWeightSuffix || binding.part != Part::Dense) {
        continue;
      }
      used[i] = true;
      RWKV_ASSIGN(const int64_t rank, planned_rank(tensor));
      if (rank == 0) {
        continue;
      }
      if (diagonal_ && binding.shape[0] != binding.shape[1]) {
        return usage_error("low_rank.diagonal needs square projections; '{}' is {}", binding.name,
                           shape_to_string(binding.shape));
      }
      found.push_back({binding.block, matrices_[i], stem, static_cast<int64_t>(binding.shape[0]),
                       static_cast<int64_t>(binding.shape[1]), rank});
    }
  }
  for (size_t i = 0; i < matrices_.size(); ++i) {
    if (!used[i] && matrices_named_) {
      return usage_error("low_rank.matrices: this model has no projection '{}'", matrices_[i]);
    }
  }
  return found;
}

void LowRankStage::replace(PackPlan& plan, const Target& target, int64_t rank) const {
  const PlannedTensor dense = *plan.find(target.stem + kWeightSuffix);
  const auto piece = [&](const char* ending, Part part, std::vector<uint64_t> shape) {
    PlannedTensor tensor = dense;
    tensor.binding.name = target.stem + ending;
    tensor.binding.part = part;
    tensor.binding.role = part == Part::Diagonal ? Role::Vector : dense.binding.role;
    tensor.binding.shape = std::move(shape);
    return tensor;
  };
  const auto r = static_cast<uint64_t>(rank);
  std::vector<PlannedTensor> pieces = {
      piece("1.weight", Part::FactorA, {r, static_cast<uint64_t>(target.cols)}),
      piece("2.weight", Part::FactorB, {static_cast<uint64_t>(target.rows), r})};
  if (diagonal_) {
    pieces.push_back(piece("_diag", Part::Diagonal, {static_cast<uint64_t>(target.rows)}));
  }
  plan.replace(target.stem + kWeightSuffix, std::move(pieces));
}

Status LowRankStage::plan(PackPlan& plan) const {
  RWKV_ASSIGN(const std::vector<Target> all, targets(plan));
  if (plan.config.low_rank == LowRankForm::ReluSquared && diagonal_) {
    return usage_error(
        "low_rank.diagonal: this checkpoint has enhanced pairs (x059), whose diagonal has another "
        "meaning; remove it");
  }
  for (const Target& target : all) {
    replace(plan, target, target.rank);
  }
  if (!all.empty() && plan.config.low_rank == LowRankForm::None) {
    plan.config.low_rank = LowRankForm::Linear;
  }
  return {};
}

// A walk, observed and then changed; the eigenvectors of each target's outputs and the error of its
// pair. With energy or budget all of that twice.
Needs LowRankStage::needs(const StageSubject& subject) const {
  const auto found = targets(subject.plan);
  if (!found.ok() || found.value().empty()) {
    return {};
  }
  constexpr double kMoments = 4;  // W H W^T
  constexpr double kErrors = 4;   // e H of the matrix and of what is lost
  Needs needs;
  for (const Target& target : found.value()) {
    const auto m = static_cast<double>(target.rows);
    const auto n = static_cast<double>(target.cols);
    needs.parallel.products += kMoments * m * n * (m + n) / 2 + kErrors * m * n * n;
    needs.parallel += factorise_effort(target.rows, target.rank);
    needs.disk += sizeof(float) * static_cast<uint64_t>(target.rank * (target.rows + target.cols));
    needs.memory = std::max(needs.memory, factorise_bytes(target.rows, target.cols));
  }
  const double rounds = diagonal_ ? static_cast<double>(rounds_) / 2 : 1;
  const double passes = allocation() == Allocation::Uniform ? 1 : 2;
  needs.parallel = needs.parallel * (rounds * passes);
  const bool walks = is_whitened() && (sequential_ || !subject.has_moments);
  if (walks) {
    Needs walk = walk_needs(subject);
    const Needs moments = moments_needs(subject);
    // Observing computes a part of a block.
    walk.parallel = walk.parallel * (passes - 1 + (sequential_ ? 1.4 : 1));
    walk.parallel += moments.parallel * passes;
    walk.memory += moments.memory;
    needs.memory += walk.memory;
    needs.then(walk);
  } else {
    // A block: its floats, their copies while it is loaded, the pages of the checkpoint.
    needs.memory += 3 * sizeof(float) * PlanSizes::of(subject.plan).largest_block;
  }
  needs.leaves_hidden = walks && sequential_;
  return needs;
}

// Calls `use` for every target with its product and the moments of its inputs (undefined for svd),
// block by block. With `is_sequential`, later blocks see the product as `use` changed it.
Status LowRankStage::each_target(
    Work& work, const std::vector<Target>& targets, bool is_sequential,
    const std::function<Status(const Target&, Linear&, const at::Tensor&)>& use,
    const char* what) const {
  const ModelConfig config = work.plan.config;
  const bool has_file = is_whitened() && work.calibration->statistics;
  BlockWalk walk{.source = *work.source,
                 .config = config,
                 .calibration = work.calibration ? &*work.calibration : nullptr,
                 .activations = !is_whitened()  ? Activations::None
                                : is_sequential ? Activations::AfterChanges
                                : has_file      ? Activations::FromFile
                                                : Activations::Unchanged,
                 .products =
                     [&](int64_t block) {
                       std::vector<std::string> products;
                       for (const Target& target : targets) {
                         if (target.block == block) {
                           products.push_back(target.product);
                         }
                       }
                       return products;
                     },
                 .progress = [&](Share share) { work.progress(what, share); }};
  const auto visit = [&](BlockVisit& here) -> Status {
    for (const Target& target : targets) {
      if (target.block == here.index) {
        const at::Tensor h = here.moments[target.product];
        RWKV_TRY(use(target, here.block.linears[target.product], h.defined() ? with_floor(h) : h));
      }
    }
    return {};
  };
  RWKV_ASSIGN(const at::Tensor hidden, walk.run(visit));
  work.hidden = walk.activations == Activations::AfterChanges ? hidden : at::Tensor();
  return {};
}

// For energy and budget: the ranks that follow from the outputs of the dense model.
Status LowRankStage::choose_ranks(Work& work, std::vector<Target>& targets) const {
  std::vector<RankCandidate> candidates;
  const Status status = each_target(
      work, targets, /*is_sequential=*/false,
      [&](const Target& target, Linear& linear, const at::Tensor& h) -> Status {
        candidates.push_back({output_energies(linear.dense, h), target.rows, target.cols});
        return {};
      },
      "ranks");
  RWKV_TRY(status);
  const std::vector<int64_t> ranks = allocation() == Allocation::Budget
                                         ? ranks_for_budget(candidates, keep_)
                                         : std::vector<int64_t>();
  int64_t least = INT64_MAX;
  int64_t most = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    targets[i].rank = ranks.empty() ? rank_for_energy(candidates[i].energies, keep_) : ranks[i];
    least = std::min(least, targets[i].rank);
    most = std::max(most, targets[i].rank);
  }
  work.report(fmt::format("low_rank: ranks from {} to {}", least, most));
  return {};
}

Factors LowRankStage::factors_of(const at::Tensor& w, const at::Tensor& h, const Target& target,
                                 const Work& work) const {
  // After compressed blocks the inputs are different for every setting.
  const bool is_common = !sequential_ || target.block == 0;
  const SpectrumStore store(is_common ? work.shared_folder : "");
  return diagonal_ ? factorise_with_diagonal(w, h, target.rank, static_cast<int64_t>(rounds_),
                                             work.seed, store)
                   : factorise(w, h, target.rank, work.seed, store);
}

Status LowRankStage::run(Work& work) const {
  RWKV_ASSIGN(std::vector<Target> all, targets(work.plan));
  if (all.empty()) {
    return {};
  }
  if (allocation() != Allocation::Uniform) {
    RWKV_TRY(choose_ranks(work, all));
  }
  double error = 0;
  const Status status = each_target(
      work, all, sequential_,
      [&](const Target& target, Linear& linear, const at::Tensor& h) -> Status {
        const Factors factors = factors_of(linear.dense, h, target, work);
        const double lost = relative_error(linear.dense, factors.product(), h);
        error += lost;
        if (h.defined()) {
          work.errors[target.stem + kWeightSuffix] = lost;
        }
        linear = {{}, factors.a, factors.b, factors.diagonal, false};
        RWKV_TRY(work.put(target.stem + "1.weight", factors.a));
        RWKV_TRY(work.put(target.stem + "2.weight", factors.b));
        if (diagonal_) {
          RWKV_TRY(work.put(target.stem + "_diag", factors.diagonal));
        }
        work.source->remove(target.stem + kWeightSuffix);
        return {};
      },
      "low_rank");
  RWKV_TRY(status);
  for (const Target& target : all) {
    replace(work.plan, target, target.rank);
  }
  if (work.plan.config.low_rank == LowRankForm::None) {
    work.plan.config.low_rank = LowRankForm::Linear;
  }
  work.report(fmt::format("low_rank: {} pairs, {:.2f} % of the {} energy lost on average",
                          all.size(), 100 * error / static_cast<double>(all.size()),
                          is_whitened() ? "output" : "weights'"));
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_low_rank_stage() {
  return std::make_unique<LowRankStage>();
}

}  // namespace rwkv::press

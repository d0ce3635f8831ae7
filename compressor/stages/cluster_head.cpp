// Stage `cluster_head` (RWKV-Lite, arXiv 2412.10856, hierarchical head): k-means over the rows of
// the head or the embedding, rows sorted by cluster, and a cluster head fitted to the probabilities
// that the full head gives to each cluster over calibration text. The rows themselves do not
// change.
#include "compressor/stages/cluster_head.h"

#include <array>

#include "compressor/checkpoint/tensor.h"
#include "compressor/clusters/cluster_head.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

constexpr std::array<const char*, 2> kRows = {"head", "embedding"};

class ClusterHeadStage final : public Stage {
 public:
  const char* name() const override { return "cluster_head"; }
  Settings settings() override;
  Status plan(PackPlan& plan) const override;
  bool needs_calibration() const override { return true; }
  Needs needs(const StageSubject& subject) const override;
  Status run(Work& work) const override;

 protected:
  Status settle(const YAML::Node& given) override;

 private:
  void add_to_plan(PackPlan& plan, uint64_t n_clusters) const;
  Result<HeadOrder> cluster(Work& work) const;
  Result<ClusterHead> fit(Work& work, const HeadOrder& order) const;
  Status put(Work& work, const HeadOrder& order, const ClusterHead& head) const;

  uint64_t clusters_ = 200;
  size_t rows_ = 0;
  uint64_t frequent_ = 0;
  double max_share_ = 0;
  uint64_t iterations_ = 25;
  double p_min_ = 0.95;
  uint64_t k_min_ = 3;
  uint64_t k_max_ = 100;
  uint64_t epochs_ = 30;
};

Settings ClusterHeadStage::settings() {
  using namespace setting;
  constexpr uint64_t kMostTokens = 1 << 24;
  constexpr uint64_t kMostRead = 1 << 20;
  return {name(),
          {
              count("clusters", clusters_, 2, kMostClusters,
                    "number of clusters, including the frequent one"),
              choice("rows", rows_, kRows, "which rows are clustered"),
              count("frequent", frequent_, 0, kMostTokens,
                    "this many of the most frequent tokens form a cluster that is always read"),
              real("max_share", max_share_, 0, 1e6,
                   "size of the largest cluster as a multiple of the average; 0: any size"),
              count("iterations", iterations_, 1, 10000, "of k-means, at most"),
              real("p_min", p_min_, 1e-6, 1.0,
                   "clusters are read until their probabilities add up to this"),
              count("k_min", k_min_, 1, kMostRead, "clusters read at least"),
              count("k_max", k_max_, 1, kMostRead, "clusters read at most"),
              count("epochs", epochs_, 0, 10000, "of the cluster head's training, at most"),
          }};
}

Status ClusterHeadStage::settle(const YAML::Node& /*given*/) {
  return k_min_ <= k_max_ ? Status()
                          : usage_error("cluster_head.k_max: expected at least k_min = {}, got {}",
                                        k_min_, k_max_);
}

Status ClusterHeadStage::plan(PackPlan& plan) const {
  const ModelConfig& config = plan.config;
  if (config.n_cluster > 0) {
    return usage_error("cluster_head: this model already has a clustered head");
  }
  if (clusters_ > config.n_vocab || frequent_ + clusters_ > config.n_vocab) {
    return usage_error(
        "cluster_head: {} clusters and {} frequent tokens do not fit; the vocabulary has {} "
        "tokens",
        clusters_, frequent_, config.n_vocab);
  }
  add_to_plan(plan, clusters_);
  return {};
}

// Activations, if no stage left them; k-means over all rows; the head once over all tokens; the
// training of the cluster head.
Needs ClusterHeadStage::needs(const StageSubject& subject) const {
  constexpr double kExponentials = 20;  // operations for each logit
  constexpr double kPassesOfStep = 4;   // forwards, and its gradients
  const ModelConfig& config = subject.plan.config;
  const auto d = static_cast<double>(config.n_embd);
  const auto v = static_cast<double>(config.n_vocab);
  const auto n = static_cast<double>(subject.tokens);
  const auto k = static_cast<double>(clusters_);
  Needs own;
  own.parallel.products = 2 * static_cast<double>(iterations_) * v * k * d + 2 * n * v * d +
                          kPassesOfStep * static_cast<double>(epochs_) * n * k * d;
  own.parallel.loops = kExponentials * n * (v + static_cast<double>(epochs_) * k);
  // Rows, twice while they are normalised; inputs of the head in some forms; targets; slices.
  constexpr uint64_t kSlices = uint64_t{100} << 20;
  own.memory =
      sizeof(float) * (2 * config.n_vocab * config.n_embd + 4 * subject.tokens * config.n_embd +
                       3 * subject.tokens * clusters_) +
      kSlices;
  own.disk = sizeof(float) * (config.n_vocab + clusters_ * config.n_embd);
  own.files = 2 * sizeof(float) * config.n_vocab * config.n_embd;
  Needs needs = subject.has_hidden ? Needs() : walk_needs(subject);
  needs.then(own);
  needs.leaves_hidden = true;
  return needs;
}

void ClusterHeadStage::add_to_plan(PackPlan& plan, uint64_t n_clusters) const {
  ModelConfig& config = plan.config;
  config.n_cluster = n_clusters;
  config.head_p_min = static_cast<float>(p_min_);
  config.head_k_min = k_min_;
  config.head_k_max = k_max_;
  config.first_cluster_always = frequent_ > 0;
  std::vector<PlannedTensor> added;
  const auto add = [&](const char* name, Role role, std::vector<uint64_t> shape) {
    PlannedTensor tensor;
    tensor.binding = {name, 0, role, Part::Dense, Layout::AsIs, -1, std::move(shape)};
    added.push_back(std::move(tensor));
  };
  add("head.tokens", Role::Vector, {config.n_vocab});
  add("head.cluster.first", Role::Vector, {n_clusters});
  add("head.cluster.weight", Role::ClusterHead, {n_clusters, config.n_embd});
  add("head.cluster.bias", Role::Vector, {n_clusters});
  plan.add(std::move(added));
}

Result<HeadOrder> ClusterHeadStage::cluster(Work& work) const {
  RWKV_ASSIGN(const at::Tensor rows,
              load_named(*work.source, rows_ == 0 ? "head.weight" : "emb.weight"));
  ClusterOptions options;
  options.n_clusters = static_cast<int64_t>(clusters_);
  options.n_frequent = static_cast<int64_t>(frequent_);
  options.max_share = max_share_;
  options.iterations = static_cast<int64_t>(iterations_);
  options.seed = work.seed;
  return cluster_vocabulary(rows, work.calibration->frequencies, options);
}

Result<ClusterHead> ClusterHeadStage::fit(Work& work, const HeadOrder& order) const {
  RWKV_ASSIGN(const at::Tensor hidden, work.last_hidden());
  RWKV_ASSIGN(const at::Tensor z, head_input(*work.source, hidden));
  RWKV_ASSIGN(const size_t head_index, work.source->index_of("head.weight"));
  const auto n_embd = static_cast<int64_t>(work.plan.config.n_embd);
  const HeadRowLoader load_rows = [&](int64_t first, int64_t n) -> Result<at::Tensor> {
    RWKV_ASSIGN(const at::Tensor rows,
                load_f32_range(*work.source, head_index, static_cast<uint64_t>(first * n_embd),
                               static_cast<uint64_t>(n * n_embd)));
    return rows.reshape({n, n_embd});
  };
  RWKV_ASSIGN(const at::Tensor targets,
              cluster_log_probabilities(z, load_rows,
                                        static_cast<int64_t>(work.plan.config.n_vocab), order));
  work.progress("cluster_head", 0.7);
  ClusterHeadOptions options;
  options.epochs = static_cast<int64_t>(epochs_);
  options.seed = work.seed;
  ClusterHeadReport report;
  RWKV_ASSIGN(ClusterHead head, fit_cluster_head(z, targets, options, &report));
  const int64_t n_held_out = report.n_held_out;
  const int64_t n_train = z.size(0) - n_held_out;
  const SelectionReport selection = measure_selection(
      head, z.narrow(0, n_train, n_held_out), targets.narrow(0, n_train, n_held_out), order, p_min_,
      static_cast<int64_t>(k_min_), static_cast<int64_t>(k_max_), frequent_ > 0);
  work.plan.shares.clusters = selection.rows_share;
  work.report(
      fmt::format("cluster_head: held-out KL {:.4f} (closed form {:.4f}); {:.1f} clusters, {:.1f} "
                  "% of the rows "
                  "read, {:.1f} % of the probability known",
                  report.kl_fitted, report.kl_closed_form, selection.n_clusters,
                  100 * selection.rows_share, 100 * selection.mass));
  return head;
}

// Integers as the floats that the file stores.
at::Tensor as_floats(const std::vector<int64_t>& numbers) {
  return at::tensor(numbers, at::kLong).to(at::kFloat);
}

Status ClusterHeadStage::put(Work& work, const HeadOrder& order, const ClusterHead& head) const {
  RWKV_TRY(work.put("head.tokens", as_floats(order.tokens)));
  RWKV_TRY(work.put("head.cluster.first", as_floats(order.first)));
  RWKV_TRY(work.put("head.cluster.weight", head.weight));
  RWKV_TRY(work.put("head.cluster.bias", head.bias));
  return work.source->permute_rows("head.weight", {order.tokens.begin(), order.tokens.end()});
}

Status ClusterHeadStage::run(Work& work) const {
  RWKV_ASSIGN(const HeadOrder order, cluster(work));
  work.progress("cluster_head", 0.3);
  RWKV_ASSIGN(const ClusterHead head, fit(work, order));
  RWKV_TRY(put(work, order, head));
  work.progress("cluster_head", 1.0);
  add_to_plan(work.plan, static_cast<uint64_t>(order.n_clusters()));
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_cluster_head_stage() {
  return std::make_unique<ClusterHeadStage>();
}

}  // namespace rwkv::press

// Stage `ffn_predictor` (RWKV-Lite, arXiv 2412.10856, sparse FFN): per block a one-bit copy of
// ffn.key, a small MLP, or both; a neuron is computed if either gives it a score above its
// threshold. Thresholds are set on text that the training did not see, so that the named neurons
// carry the share `recall` of the output energy. Nothing else in the model changes.
#include "compressor/stages/ffn_predictor.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/predictors/needs.h"
#include "compressor/predictors/predictor.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {
namespace {

constexpr std::array<const char*, 4> kKinds = {"sign", "mlp", "both", "auto"};
constexpr float kNever = std::numeric_limits<float>::max();

class FfnPredictorStage final : public Stage {
 public:
  const char* name() const override { return "ffn_predictor"; }
  Settings settings() override;
  Status plan(PackPlan& plan) const override;
  bool needs_calibration() const override { return true; }
  Needs needs(const StageSubject& subject) const override;
  Status run(Work& work) const override;

 private:
  bool has_sign() const { return kind_ != 1; }
  bool has_mlp() const { return kind_ != 0; }
  bool weighs_bytes() const { return kind_ == 3; }
  void add_to_plan(PackPlan& plan, int64_t block, bool sign, bool mlp) const;
  Result<FfnPredictor> fit(const Block& block, const at::Tensor& inputs, const Work& work,
                           int64_t index) const;
  Status put(Work& work, int64_t block, const FfnPredictor& predictor,
             const at::Tensor& bias) const;

  size_t kind_ = 2;
  double recall_ = 0.99;
  double row_bits_ = 8;
  uint64_t hidden_ = 64;
  uint64_t epochs_ = 20;
  double learning_rate_ = MlpOptions{}.learning_rate;
};

std::string stem_of(int64_t block) {
  return fmt::format("blocks.{}.ffn.predictor.", block);
}

Settings FfnPredictorStage::settings() {
  using namespace setting;
  return {name(),
          {
              choice("kinds", kind_, kKinds,
                     "sign (one bit per weight), mlp, both, or auto: those that "
                     "make a token read the fewest bytes, by block"),
              real("recall", recall_, 0.01, 1.0,
                   "share of the output's energy that the named neurons must have"),
              real("row_bits", row_bits_, 1, 32,
                   "bits of a weight of ffn.key and ffn.value as packed, for kinds: auto")
                  .shown_if(weighs_bytes()),
              count("hidden", hidden_, 1, 4096, "width of the MLP"),
              count("epochs", epochs_, 1, 10000, "of the MLP's training, at most"),
              real("learning_rate", learning_rate_, 1e-6, 1.0, "at the start"),
          }};
}

void FfnPredictorStage::add_to_plan(PackPlan& plan, int64_t block, bool sign, bool mlp) const {
  std::vector<PlannedTensor> added;
  const auto add = [&](const char* name, Role role, Codec codec, std::vector<uint64_t> shape) {
    PlannedTensor tensor;
    tensor.binding = {stem_of(block) + name, 0, role, Part::Dense, Layout::AsIs, block,
                      std::move(shape)};
    tensor.codec = codec;
    added.push_back(std::move(tensor));
  };
  const ModelConfig& config = plan.config;
  if (sign) {
    add("sign.weight", Role::SignBits, Codec::SignRow, {config.dim_ffn, config.n_embd});
  }
  if (mlp) {
    add("fc1.weight", Role::Predictor, Codec::F32, {hidden_, config.n_embd});
    add("fc2.weight", Role::Predictor, Codec::F32, {config.dim_ffn, hidden_});
    plan.config.predictor_hidden = hidden_;
  }
  if (sign || mlp) {
    add("threshold", Role::Vector, Codec::F32, {2});
    add("bias", Role::Vector, Codec::F32, {config.n_embd});
  }
  plan.add(std::move(added));
}

// What `auto` keeps is known once predictors are fitted. Beside the MLP sign bits hardly ever pay,
// so it is planned without them.
Status FfnPredictorStage::plan(PackPlan& plan) const {
  for (uint64_t i = 0; i < plan.config.n_layer; ++i) {
    const auto block = static_cast<int64_t>(i);
    if (!plan.find(fmt::format("blocks.{}.ffn.key.weight", i))) {
      return usage_error("ffn_predictor: block {} has no dense ffn.key to predict", i);
    }
    if (plan.find(stem_of(block) + "threshold")) {
      return usage_error("ffn_predictor: this model already has predictors");
    }
    add_to_plan(plan, block, has_sign() && !weighs_bytes(), has_mlp());
  }
  return {};
}

// One walk; in each block the inputs of ffn.key, and a predictor fitted to them.
Needs FfnPredictorStage::needs(const StageSubject& subject) const {
  const ModelConfig& config = subject.plan.config;
  PredictorOptions options;
  options.sign = has_sign();
  options.mlp = has_mlp();
  options.mlp_options.hidden = static_cast<int64_t>(hidden_);
  options.mlp_options.epochs = static_cast<int64_t>(epochs_);
  const PredictorShape shape = {subject.tokens, config.n_embd, config.dim_ffn};
  const Needs fit = predictor_needs(shape, options);
  const auto blocks = static_cast<double>(config.n_layer);
  Needs needs = walk_needs(subject);
  // Inputs as they are observed, and as one tensor.
  needs.memory += 2 * sizeof(float) * subject.tokens * config.n_embd + fit.memory;
  needs.serial += fit.serial * blocks;
  needs.parallel += fit.parallel * blocks;
  // What is missed, over a fifth of the tokens: neurons and both scores.
  needs.parallel.products += blocks * 2 * static_cast<double>(subject.tokens / 5) *
                             static_cast<double>((has_sign() ? 2 : 1) * config.n_embd) *
                             static_cast<double>(config.dim_ffn);
  needs.disk = config.n_layer * fit.disk;
  needs.leaves_hidden = true;
  return needs;
}

Result<FfnPredictor> FfnPredictorStage::fit(const Block& block, const at::Tensor& inputs,
                                            const Work& work, int64_t index) const {
  const at::Tensor& key = block.linears.at("ffn.key").dense;
  const at::Tensor norms = block.linears.at("ffn.value").dense.square().sum(0).sqrt();
  PredictorOptions options;
  options.sign = has_sign();
  options.mlp = has_mlp();
  options.recall = recall_;
  options.row_bits = weighs_bytes() ? row_bits_ : 0;
  options.mlp_options.hidden = static_cast<int64_t>(hidden_);
  options.mlp_options.epochs = static_cast<int64_t>(epochs_);
  options.mlp_options.learning_rate = learning_rate_;
  options.mlp_options.seed = work.seed + static_cast<uint64_t>(index);
  return fit_predictor(inputs, key, norms, options, TensorStore(work.shared_folder));
}

// The mean of V relu(k)^2 over the neurons that are not named, [n_embd], on the tokens that set the
// thresholds (the last fifth).
at::Tensor mean_missed(const Block& block, const at::Tensor& inputs,
                       const FfnPredictor& predictor) {
  constexpr int64_t kTokens = 512;
  const at::Tensor& key = block.linears.at("ffn.key").dense;
  const at::Tensor& value = block.linears.at("ffn.value").dense;
  const int64_t n = inputs.size(0) / 5;
  const at::Tensor last = inputs.narrow(0, inputs.size(0) - n, n);
  std::vector<at::Tensor> sums(static_cast<size_t>((n + kTokens - 1) / kTokens));
  in_tiles(n, kTokens, [&](int64_t begin, int64_t end) {
    const at::Tensor x = last.narrow(0, begin, end - begin);
    at::Tensor named = at::zeros({x.size(0), key.size(0)}, at::kBool);
    if (predictor.sign.defined()) {
      named.logical_or_(at::mm(x, predictor.sign.t()).gt(predictor.thresholds.sign));
    }
    if (predictor.mlp.defined()) {
      named.logical_or_(predictor.mlp.scores(x).gt(predictor.thresholds.mlp));
    }
    const at::Tensor neurons = at::mm(x, key.t()).relu().square().masked_fill(named, 0);
    sums[static_cast<size_t>(begin / kTokens)] = neurons.sum(0);
  });
  at::Tensor sum = at::zeros({key.size(0)}, at::kFloat);
  for (const at::Tensor& part : sums) {
    sum.add_(part);
  }
  const SingleThread one;
  return at::mv(value, sum / static_cast<double>(n));
}

// A half that does not help, by its threshold, is left out.
Status FfnPredictorStage::put(Work& work, int64_t block, const FfnPredictor& predictor,
                              const at::Tensor& bias) const {
  const Thresholds& thresholds = predictor.thresholds;
  const bool sign = has_sign() && (thresholds.sign < kNever || !has_mlp());
  const bool mlp = has_mlp() && (thresholds.mlp < kNever || !has_sign());
  const std::string stem = stem_of(block);
  if (sign) {
    RWKV_TRY(work.put(stem + "sign.weight", predictor.sign));
  }
  if (mlp) {
    RWKV_TRY(work.put(stem + "fc1.weight", predictor.mlp.fc1));
    RWKV_TRY(work.put(stem + "fc2.weight", predictor.mlp.fc2));
  }
  RWKV_TRY(work.put(stem + "threshold", at::tensor({thresholds.sign, thresholds.mlp})));
  RWKV_TRY(work.put(stem + "bias", bias));
  add_to_plan(work.plan, block, sign, mlp);
  return {};
}

Status FfnPredictorStage::run(Work& work) const {
  const ModelConfig config = work.plan.config;
  const double share = 1.0 / static_cast<double>(config.n_layer);
  double loaded = 0;
  double active = 0;
  double recall = 0;
  std::vector<at::Tensor> inputs;
  const BlockWalk walk{
      .source = *work.source,
      .config = config,
      .calibration = &*work.calibration,
      .activations = Activations::Unchanged,
      .observe = [&](const std::string& /*product*/, const at::Tensor& x) { inputs.push_back(x); },
      .observed = {"ffn.key"},
      .progress = [&](Share done) { work.progress(name(), done); }};
  const auto visit = [&](BlockVisit& here) -> Status {
    const at::Tensor all = at::cat(inputs, 0);
    inputs.clear();
    RWKV_ASSIGN(const FfnPredictor predictor, fit(here.block, all, work, here.index));
    RWKV_TRY(put(work, here.index, predictor, mean_missed(here.block, all, predictor)));
    loaded += predictor.thresholds.loaded * share;
    active += predictor.thresholds.active * share;
    recall += predictor.thresholds.recall * share;
    return {};
  };
  RWKV_ASSIGN(work.hidden, walk.run(visit));
  work.plan.shares.neurons = loaded;
  work.report(fmt::format(
      "ffn_predictor: {:.1f} % of the neurons are named, {:.1f} % are active, energy recall {:.4f}",
      100 * loaded, 100 * active, recall));
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_ffn_predictor_stage() {
  return std::make_unique<FfnPredictorStage>();
}

}  // namespace rwkv::press

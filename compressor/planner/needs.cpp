#include "compressor/planner/needs.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "compressor/low_rank/factorise.h"
#include "compressor/model/needs.h"
#include "compressor/planner/choice.h"
#include "compressor/planner/curves.h"
#include "compressor/predictors/needs.h"
#include "compressor/quantizers/needs.h"
#include "compressor/stages/needs.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kFloat = sizeof(float);
// As in measured_choices, estimate, estimate_predictors and estimate_head.
constexpr double kMeasured = 32;
constexpr double kMeasuredTokens = 512;
constexpr double kSampledBlocks = 6;
constexpr double kPartOfOutputs = 4;
constexpr uint64_t kHeadInputs = 8192;
constexpr double kHeadTokens = 512;
constexpr double kHeadGroups = 8;
// Operations for each weight that is rounded to nearest in a codec, and for each logit.
constexpr double kOfRounding = 150;
constexpr double kOfLogit = 20;
// Steps of the knapsack for each matrix and frame.
constexpr double kOfSearch = 12.0 * (1 << 14) * 6;
// Forms in which moments and their triangle are held while codes are learnt, in floats.
constexpr uint64_t kMomentForms = 10;

// What there is to plan.
struct Shape {
  const ModelConfig& config;
  const StageSubject& subject;
  PlanSizes sizes;
  std::vector<PlannedMatrix> matrices = {};
  double rungs = 0;      // below the finest
  double settings = 0;   // of all matrices together
  double tokens = 0;     // that losses are of
  uint64_t head = 0;     // elements
  uint64_t outputs = 0;  // of the products of a block
  bool pairs = true;
  bool sparse = true;

  double logits(double n) const { return 2 * n * static_cast<double>(head); }
  Effort blocks(double n) const {
    return forward_effort(config, sizes.blocks, static_cast<uint64_t>(n));
  }
};

double squares(uint64_t n) {
  return static_cast<double>(n) * static_cast<double>(n);
}

Needs gradients_needs(const Shape& shape) {
  Needs needs;
  needs.parallel = shape.blocks(shape.tokens) * 4;  // forwards, again with gradients, and back
  needs.parallel.products += 2 * shape.logits(shape.tokens);
  needs.parallel.loops +=
      kOfLogit * shape.logits(shape.tokens) / 2 / static_cast<double>(shape.config.n_embd);
  const auto n = static_cast<uint64_t>(shape.tokens);
  const uint64_t batch = std::min<uint64_t>(n, 512);
  const uint64_t at_once = std::min<uint64_t>(
      static_cast<uint64_t>(std::max(1, at::get_num_threads())), std::max<uint64_t>(1, n / batch));
  needs.memory =
      shape.config.n_layer * n * (kFloat * shape.config.n_embd + 2 * shape.outputs) +
      std::max(2 * kFloat * shape.sizes.largest_block + at_once * saved_bytes(shape.config, batch),
               kFloat * shape.head);
  needs.files = 2 * 2 * shape.sizes.blocks;
  return needs;
}

// Gradients wait for their block, and the head for the end.
uint64_t held_bytes(const Shape& shape) {
  return static_cast<uint64_t>(shape.tokens) * 2 * shape.outputs * shape.config.n_layer +
         kFloat * shape.head;
}

Needs matrices_needs(const Shape& shape) {
  Needs needs = walk_needs(shape.subject);
  // On average half of the choices have begun; each codec of lora matrices is a model of its own.
  const double runs = kMeasured / 2 + (is_v7(shape.config.version) ? shape.rungs : 0);
  needs.parallel += shape.blocks(std::min(shape.tokens, kMeasuredTokens)) * runs;
  needs.parallel += shape.blocks(shape.tokens);
  const double some = std::min(1.0, kSampledBlocks / static_cast<double>(shape.config.n_layer));
  uint64_t largest = 0;
  for (const PlannedMatrix& matrix : shape.matrices) {
    if (matrix.block < 0) {
      continue;
    }
    const double weights = static_cast<double>(matrix.rows * matrix.cols) / kPartOfOutputs;
    needs.parallel.products += (shape.rungs + 2) * 2 * shape.tokens * weights;
    needs.parallel.loops += (shape.rungs + 1) * kOfRounding * weights;
    const bool is_wide = matrix.layout == Layout::Transposed;
    const Needs learnt =
        learnt_needs(matrix.rows, matrix.cols / static_cast<uint64_t>(kPartOfOutputs), is_wide);
    needs.parallel += learnt.parallel * (is_wide ? some : 1);
    needs.parallel.products +=
        static_cast<double>(shape.subject.tokens) * squares(matrix.cols) * (is_wide ? some : 1);
    largest = std::max(largest, kMomentForms * kFloat * matrix.cols * matrix.cols);
    if (shape.pairs && matrix.may_pair) {
      const auto rows = static_cast<int64_t>(matrix.rows);
      needs.parallel += factorise_effort(rows, rank_of(2.5, matrix.rows, matrix.cols));
      needs.parallel.products +=
          3 * 2 * shape.tokens * static_cast<double>(matrix.rows * matrix.cols);
    }
  }
  needs.parallel.products += shape.logits(kMeasuredTokens) * (kMeasured + shape.rungs);
  needs.memory += held_bytes(shape) + largest;
  return needs;
}

Needs predictors_needs(const Shape& shape) {
  const auto recalls = static_cast<double>(planned_recalls().size());
  PredictorOptions options;
  const PredictorShape one = {shape.subject.tokens, shape.config.n_embd, shape.config.dim_ffn};
  const Needs fit = predictor_needs(one, options);
  PredictorOptions again = options;
  again.mlp_options.epochs = 1;
  const Needs thresholds = predictor_needs(one, again);
  const double blocks = std::min(kSampledBlocks, static_cast<double>(shape.config.n_layer));
  Needs needs = fit;
  needs.parallel = fit.parallel * blocks;
  needs.parallel += thresholds.parallel * (blocks * (recalls - 1));
  needs.disk = static_cast<uint64_t>(blocks) * fit.disk;
  needs.memory += held_bytes(shape) + 3 * kFloat * shape.subject.tokens * shape.config.n_embd +
                  3 * kFloat * static_cast<uint64_t>(shape.tokens) * shape.config.dim_ffn;
  return needs;
}

Needs head_needs(const Shape& shape) {
  const auto inputs = static_cast<double>(std::min(kHeadInputs, shape.subject.tokens));
  const auto v = static_cast<double>(shape.config.n_vocab);
  const auto d = static_cast<double>(shape.config.n_embd);
  const double tokens = std::min(shape.tokens, kHeadTokens);
  Needs needs;
  needs.parallel.products = shape.logits(inputs) * (shape.sparse ? 2 : 1) +
                            shape.logits(tokens) * (2 * shape.rungs + 2) + 2 * 10 * v * 128 * d +
                            (shape.sparse ? 2 * 25 * v * 200 * d : 0) +
                            kHeadGroups * shape.rungs * 20 * v / 128 * d * d;
  needs.parallel.loops =
      kOfLogit * v * (inputs * (shape.sparse ? 2 : 1) + tokens * 2 * shape.rungs) +
      kOfRounding * v * d * shape.rungs;
  // The head, rounded, and differences; copies while rows are normalised.
  needs.memory = 4 * kFloat * shape.head + 4 * kFloat * shape.subject.tokens * shape.config.n_embd;
  return needs;
}

// With measured losses: codes for all matrices, then a run from its block for each setting, and
// again for neighbours in each round. On one thread, but for the codes.
Needs curves_needs(const Shape& shape, const Budget& budget) {
  constexpr double kNeighbours = 6;
  Needs needs = walk_needs(shape.subject);
  const Needs moments = moments_needs(shape.subject);
  needs.parallel += moments.parallel;
  for (const PlannedMatrix& matrix : shape.matrices) {
    needs.parallel +=
        learnt_needs(matrix.rows, matrix.cols, matrix.layout == Layout::Transposed).parallel *
        (shape.rungs / 2);
  }
  const double runs = shape.settings + static_cast<double>(budget.rounds) * kNeighbours *
                                           static_cast<double>(shape.matrices.size());
  needs.serial = shape.blocks(shape.tokens) * (runs / 2);
  needs.serial.products += shape.logits(shape.tokens) * runs;
  needs.serial.loops += kOfLogit * runs * shape.tokens * static_cast<double>(shape.config.n_vocab);
  needs.memory +=
      3 * kFloat * shape.sizes.all + moments.memory +
      std::min<uint64_t>(uint64_t{256} << 20,
                         kFloat * static_cast<uint64_t>(shape.tokens) * shape.config.n_vocab);
  return needs;
}

// A recipe of the kind that plans are.
const char* usual_recipe(bool sparse) {
  return sparse ? "stages:\n  - cluster_head\n  - ffn_predictor\n  - quantize: {codec: lut4, "
                  "lora_codec: i8_row, quantizer: refined, sequential: true}\n"
                : "stages:\n  - quantize: {codec: lut4, lora_codec: i8_row, quantizer: refined}\n";
}

// The conversion, and both models on the runtime over the text.
Status add_check(const Shape& shape, const Recipe& recipe, const Identified& model,
                 uint64_t source_bytes, WorkEstimate& all) {
  constexpr double kRuns = 3;      // the plan, the dense model, and once more the one or the other
  constexpr double kSlower = 1.5;  // than large products in f32
  RWKV_ASSIGN(const Recipe usual, parse_recipe(usual_recipe(shape.sparse), recipe.name, {}));
  RWKV_ASSIGN(
      const WorkEstimate conversion,
      estimate_recipe(usual, model, {recipe.calibration.samples, recipe.calibration.length, false},
                      source_bytes));
  Needs needs;
  for (const StageEstimate& stage : conversion.stages) {
    needs.then(stage.needs);
  }
  needs.remedies.clear();
  Needs measured;
  measured.parallel = shape.blocks(shape.tokens) * (kRuns * kSlower);
  measured.parallel.products += kRuns * kSlower * shape.logits(shape.tokens);
  measured.memory = 3 * shape.sizes.all;  // f16, and the plan
  measured.disk = 2 * shape.sizes.all;
  needs.then(measured);
  add_stage(all, {"check", needs});
  return {};
}

uint64_t parameters_of(const Identified& model) {
  uint64_t parameters = 0;
  for (const TensorBinding& binding : model.tensors) {
    uint64_t n = 1;
    for (const uint64_t size : binding.shape) {
      n *= size;
    }
    parameters += n;
  }
  return parameters;
}

}  // namespace

bool is_estimated(const Budget& budget, const Identified& model) {
  constexpr uint64_t kMostMeasured = 30'000'000;
  return budget.losses == "auto" ? parameters_of(model) > kMostMeasured
                                 : budget.losses == "estimated";
}

uint64_t estimated_tokens(const Identified& model) {
  constexpr uint64_t kLeast = 2048;
  constexpr uint64_t kWork = kLeast * 30'000'000;  // tokens times parameters
  return std::max(kLeast, kWork / std::max<uint64_t>(1, parameters_of(model)));
}

bool is_checked(const Budget& budget, const Identified& model) {
  constexpr uint64_t kMostChecked = 250'000'000;
  return budget.check == "auto" ? parameters_of(model) <= kMostChecked : budget.check == "packed";
}

Result<WorkEstimate> estimate_plan(const Recipe& recipe, const Identified& model,
                                   uint64_t source_bytes) {
  const Budget& budget = *recipe.budget;
  const bool estimated = is_estimated(budget, model);
  const PackPlan plan = plan_for(model);
  const StageSubject subject{plan, plan, recipe.calibration.samples * recipe.calibration.length,
                             false, false};
  Shape shape{.config = plan.config, .subject = subject, .sizes = PlanSizes::of(plan)};
  RWKV_ASSIGN(shape.matrices, planned_matrices(model));
  shape.pairs = budget.pairs;
  shape.sparse = budget.memory == "sparse" || (budget.memory == "any" && budget.resident > 0);
  shape.rungs =
      static_cast<double>(budget.codecs.empty() ? Ladder().below().size() : budget.codecs.size());
  const double text = static_cast<double>(budget.samples * recipe.calibration.length);
  shape.tokens = estimated ? std::min(text, static_cast<double>(estimated_tokens(model))) : text;
  shape.head = plan.config.n_vocab * plan.config.n_embd;
  for (const PlannedMatrix& matrix : shape.matrices) {
    shape.outputs += matrix.block == 0 ? matrix.rows : 0;
    shape.settings += shape.rungs + (budget.pairs && matrix.may_pair ? 9 : 0);
  }
  WorkEstimate all;
  all.program = resident_bytes();
  if (estimated) {
    all.stages = {{"gradients", gradients_needs(shape)}, {"matrices", matrices_needs(shape)}};
    if (shape.sparse) {
      all.stages.push_back({"predictors", predictors_needs(shape)});
    }
    all.stages.push_back({"head", head_needs(shape)});
  } else {
    all.stages = {{"curves", curves_needs(shape, budget)}};
    if (shape.sparse) {
      all.stages.push_back({"predictors", predictors_needs(shape)});
    }
  }
  Needs search;
  const auto recalls = static_cast<double>(planned_recalls().size());
  const auto masses = static_cast<double>(planned_masses().size());
  search.serial.loops = kOfSearch * static_cast<double>(shape.matrices.size()) *
                        (shape.sparse ? 1 + (1 + recalls) * (1 + masses) : 1);
  all.stages.push_back({"search", search});
  if (is_checked(budget, model)) {
    RWKV_TRY(add_check(shape, recipe, model, source_bytes, all));
  }
  return all;
}

}  // namespace rwkv::press

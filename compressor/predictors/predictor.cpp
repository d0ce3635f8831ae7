#include "compressor/predictors/predictor.h"

#include <algorithm>
#include <optional>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/predictors/checks.h"

namespace rwkv::press {
namespace {

Status check(const at::Tensor& x, const at::Tensor& key, const at::Tensor& norms,
             const PredictorOptions& options) {
  if (!options.sign && !options.mlp) {
    return usage_error(
        "predictor: expected at least one of the sign half and the MLP half, found neither");
  }
  RWKV_TRY(check_target(options.recall));
  RWKV_TRY(check_layer(x, key, norms));
  return options.mlp ? check_mlp_options(options.mlp_options, x.size(1)) : Status();
}

// How much a byte of a row that is read by itself costs, to one that is read in sequence: sparse
// and loaded mode of a 1.5B differ by as much (docs/performance.md).
constexpr double kScattered = 2;

// A named neuron is a row of K and, nearly always, one of V.
HalfCosts costs_of(const PredictorOptions& options, const at::Tensor& key) {
  if (options.row_bits <= 0) {
    return {};
  }
  const auto rows = static_cast<double>(key.size(0));
  const auto cols = static_cast<double>(key.size(1));
  const double mlp = static_cast<double>(options.mlp_options.hidden) * (rows + cols);
  return {.sign = 1 / (2 * kScattered * options.row_bits),
          .mlp = mlp / (2 * kScattered * rows * cols)};
}

// Takes `candidate` as the predictor's sign half if its thresholds cost less.
struct Choice {
  FfnPredictor& predictor;
  bool made = false;

  void offer(const at::Tensor& candidate, const Thresholds& thresholds) {
    if (!made || thresholds.cost < predictor.thresholds.cost) {
      predictor.sign = candidate;
      predictor.thresholds = thresholds;
      made = true;
    }
  }
};

// Trained, or as it was trained before from the same.
MlpPredictor trained(const at::Tensor& x, const at::Tensor& key, const at::Tensor& norms,
                     const MlpOptions& options, const TensorStore& store) {
  if (!store.keeps()) {
    return train_checked_mlp(x, key, norms, options);
  }
  const std::string name =
      fmt::format("mlp-{}-{}-{}-{}-{}-{}-{}-{:016x}", options.hidden, options.epochs, options.batch,
                  options.learning_rate, options.importance, options.load, options.seed,
                  hash_of({x, key, norms}));
  if (const auto kept =
          store.find(name, {{options.hidden, key.size(1)}, {key.size(0), options.hidden}})) {
    return {(*kept)[0], (*kept)[1]};
  }
  MlpPredictor mlp = train_checked_mlp(x, key, norms, options);
  store.keep(name, {mlp.fc1, mlp.fc2});
  return mlp;
}

}  // namespace

Result<FfnPredictor> fit_predictor(const at::Tensor& x, const at::Tensor& key,
                                   const at::Tensor& value_norms, const PredictorOptions& options,
                                   const TensorStore& store) {
  constexpr int64_t kMaxNumbers = int64_t{1} << 26;
  RWKV_TRY(check(x, key, value_norms, options));
  const int64_t held_out = x.size(0) / 5;
  const at::Tensor train = x.narrow(0, 0, x.size(0) - held_out);
  const at::Tensor calibration = even_rows(x.narrow(0, x.size(0) - held_out, held_out),
                                           std::max<int64_t>(kMaxNumbers / key.size(0), 1));
  FfnPredictor result;
  PredictorScores scores;
  const HalfCosts costs = costs_of(options, key);
  if (options.mlp) {
    result.mlp = trained(train, key, value_norms, options.mlp_options, store);
    result.mlp.fc1 = round_to_half(result.mlp.fc1);
    result.mlp.fc2 = round_to_half(result.mlp.fc2);
    scores.mlp = result.mlp.scores(calibration);
  }
  const at::Tensor outputs = product_in_tiles(calibration, key);
  if (!options.sign) {
    RWKV_ASSIGN(result.thresholds,
                calibrate_thresholds(outputs, value_norms, scores, options.recall, costs));
    return result;
  }
  Choice choice{result};
  for (const bool fitted : {true, false}) {
    const at::Tensor matrix = fitted ? two_level_fitted(key, train) : two_level(key);
    scores.sign = product_in_tiles(calibration, matrix);
    RWKV_ASSIGN(const Thresholds thresholds,
                calibrate_thresholds(outputs, value_norms, scores, options.recall, costs));
    choice.offer(matrix, thresholds);
  }
  return result;
}

}  // namespace rwkv::press

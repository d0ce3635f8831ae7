// Predictors of active neurons: two-level matrices, the trained MLP, thresholds, and all together.
#include "compressor/predictors/predictor.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/predictors/mlp_trainer.h"
#include "formats/base/half.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::press;

namespace {

constexpr float kOff = std::numeric_limits<float>::max();

at::Tensor matrix(int64_t columns, const std::vector<float>& numbers) {
  return at::tensor(numbers).view({-1, columns});
}

at::Tensor random(uint64_t seed, int64_t rows, int64_t columns) {
  return at::randn({rows, columns}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

struct Layer {
  at::Tensor x, key, norms;
};

// x decides through a few directions which neurons are on: k has a low rank plus a little noise
// and a negative mean, which x carries in channel 0.
Layer planted(int64_t tokens) {
  constexpr int64_t kRank = 6, kChannels = 48, kNeurons = 160;
  Layer layer;
  layer.x = random(1, tokens, kChannels);
  layer.x.select(1, 0).fill_(1.0f);
  const at::Tensor low = at::mm(random(2, kNeurons, kRank), random(3, kRank, kChannels));
  layer.key = low.mul(0.3).add(random(4, kNeurons, kChannels), 0.1);
  layer.key.select(1, 0).sub_(3.0f);
  layer.norms = random(5, 1, kNeurons).view(-1).abs().add(0.5);
  return layer;
}

Layer tokens_of(const Layer& layer, int64_t first, int64_t count) {
  return {layer.x.narrow(0, first, count), layer.key, layer.norms};
}

at::Tensor outputs(const Layer& layer) {
  return at::mm(layer.x, layer.key.t());
}

// Mean over tokens of the rank correlation over neurons.
double rank_correlation(const at::Tensor& left, const at::Tensor& right) {
  const auto ranks = [](const at::Tensor& scores) {
    const at::Tensor result = scores.argsort(1, false).argsort(1, false).to(at::kFloat);
    return result - result.mean(1, true);
  };
  return at::cosine_similarity(ranks(left), ranks(right)).mean().item<double>();
}

// Per neuron, [F].
at::Tensor squared_errors(const Layer& layer, const at::Tensor& approximation) {
  return at::mm(layer.x, (approximation - layer.key).t()).square().sum(0);
}

// By the definition of recall: silent tokens lose nothing.
double kept(const Layer& layer, const at::Tensor& named) {
  const at::Tensor shares = energy_shares(outputs(layer), layer.norms);
  return 1 - shares.mul(~named).sum(1).mean().item<double>();
}

// Share of the output energy that the 20 % highest scores of each token keep.
double kept_by_fifth(const Layer& layer, const at::Tensor& scores) {
  const at::Tensor lowest = std::get<0>(scores.topk(scores.size(1) / 5, 1)).amin(1, true);
  return kept(layer, at::ge(scores, lowest));
}

void check_promise(const Layer& layer, const PredictorScores& scores, const Thresholds& found) {
  at::Tensor named = at::zeros_like(outputs(layer), at::kBool);
  named |= scores.sign.defined() ? at::gt(scores.sign, found.sign) : named;
  named |= scores.mlp.defined() ? at::gt(scores.mlp, found.mlp) : named;
  CHECK(kept(layer, named) == Approx(found.recall).margin(1e-5));
  CHECK(named.to(at::kDouble).mean().item<double>() == Approx(found.loaded));
}

Result<MlpPredictor> train(const Layer& layer, const MlpOptions& options) {
  return train_mlp(layer.x, layer.key, layer.norms, options);
}

Result<FfnPredictor> fit(const Layer& layer, const PredictorOptions& options) {
  return fit_predictor(layer.x, layer.key, layer.norms, options);
}

template <typename T>
T need(Result<T> result) {
  REQUIRE_OK(result.status());
  return result.take();
}

template <typename T>
void refuses(const Result<T>& result, Code code, const char* part) {
  const Status status = result.status();
  INFO(status.message());
  CHECK(status.code() == code);
  CHECK(status.message().find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("two_level takes the means of what is above a row's mean and of the rest", "[predict]") {
  // Means 1.5, 0.1 (which is no f16 number) and 2, which a number equals.
  const at::Tensor key = matrix(4, {0, 1, 2, 3, 0.1f, 0.1f, 0.1f, 0.1f, -1, 2, -1, 8});
  const float tenth = f16_to_f32(f32_to_f16(0.1f));
  CHECK(at::equal(two_level(key),
                  matrix(4, {0.5f, 0.5f, 2.5f, 2.5f, tenth, tenth, tenth, tenth, 0, 0, 0, 8})));
  CHECK(at::equal(two_level(matrix(2, {1e9f, -1e9f})), matrix(2, {65504, -65504})));
  const auto [x, long_rows, norms] = planted(64);
  const at::Tensor once = two_level(long_rows);
  CHECK(at::equal(two_level(once), once));
  const at::Tensor fitted = two_level_fitted(long_rows, x);
  CHECK(at::equal(two_level(fitted), fitted));
}

TEST_CASE("An outlier does not spoil the bits of other rows", "[predict]") {
  const at::Tensor x = random(11, 300, 128);
  at::Tensor key = random(12, 200, 128);
  key[7][5] = 400.0f;
  const at::Tensor k = at::mm(x, key.t());
  CHECK(rank_correlation(at::mm(x, two_level(key).t()), k) > 0.6);
  // The cut in the middle of the matrix's range leaves one bit of all set.
  const at::Tensor midpoint = at::gt(key, 0.5 * (key.max() + key.min())).to(at::kFloat);
  CHECK(std::abs(rank_correlation(at::mm(x, midpoint.t()), k)) < 0.1);
}

TEST_CASE("Fitted levels are f16 and never further from the scores than plain ones", "[predict]") {
  const Layer layer = planted(1024);
  const at::Tensor plain = two_level(layer.key);
  const at::Tensor fitted = two_level_fitted(layer.key, layer.x);
  CHECK(at::equal(fitted, fitted.to(at::kHalf).to(at::kFloat)));
  const at::Tensor ratios = squared_errors(layer, fitted) / squared_errors(layer, plain);
  CHECK((ratios.max().item<double>() < 1 + 1e-4 && ratios.mean().item<double>() < 1));
  // Inputs that say nothing about the levels: silent, or the same in each channel.
  CHECK(at::equal(two_level_fitted(layer.key, at::zeros_like(layer.x)), plain));
  const at::Tensor flat = two_level_fitted(layer.key, at::full_like(layer.x, 1e-3));
  CHECK(at::isfinite(flat).all().item<bool>());
}

TEST_CASE("The MLP learns a planted gating", "[predict]") {
  const Layer layer = planted(1536);
  const Layer seen = tokens_of(layer, 0, 1280);
  const Layer unseen = tokens_of(layer, 1280, 256);
  const auto trained = need(train(seen, {.hidden = 16, .epochs = 15}));
  const auto idle = need(train(seen, {.hidden = 16, .epochs = 1, .learning_rate = 1e-9}));
  CHECK((trained.fc1.size(0) == 16 && trained.fc1.size(1) == 48 && trained.fc2.size(0) == 160));
  CHECK(kept_by_fifth(unseen, trained.scores(unseen.x)) > 0.9);
  CHECK(kept_by_fifth(unseen, idle.scores(unseen.x)) < 0.6);
  CHECK(kept_by_fifth(unseen, random(21, 256, 160)) < 0.3);
}

TEST_CASE("Training depends on the seed, not on threads and scales of channels", "[predict]") {
  const Layer layer = planted(512);
  const auto first = need(train(layer, {.hidden = 16, .epochs = 3}));
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  const auto again = need(train(layer, {.hidden = 16, .epochs = 3}));
  at::set_num_threads(threads);
  const auto other = need(train(layer, {.hidden = 16, .epochs = 3, .seed = 2}));
  CHECK((at::equal(first.fc1, again.fc1) && at::equal(first.fc2, again.fc2)));
  CHECK_FALSE(at::equal(first.fc2, other.fc2));
  // Powers of two are exact, so training sees the same numbers; fc1 absorbs them.
  const at::Tensor scales = at::arange(48, at::kFloat).remainder(3).exp2();
  const Layer scaled{layer.x * scales, layer.key / scales, layer.norms};
  const auto scores = need(train(scaled, {.hidden = 16, .epochs = 3})).scores(scaled.x);
  CHECK(at::allclose(first.scores(layer.x), scores, 1e-2, 1e-2));
}

TEST_CASE("A step of training in tiles is Adam on the whole network, with any number of threads",
          "[predict]") {
  constexpr int64_t kTokens = 150, kChannels = 24, kHidden = 40, kNeurons = 1100;
  const at::Tensor x = random(1, 200, kChannels);
  MlpTargets targets{random(2, 200, kNeurons).relu().to(at::kBFloat16), 1.5, 0};
  std::vector<int64_t> tokens(kTokens);
  std::iota(tokens.begin(), tokens.end(), 30);
  const at::Tensor fc1 = random(3, kHidden, kChannels) * 0.2;
  const at::Tensor fc2 = random(4, kNeurons, kHidden) * 0.2;
  std::vector<MlpTrainer> trainers;
  const int before = at::get_num_threads();
  for (const int n : {1, 3}) {
    at::set_num_threads(n);
    MlpTrainer& trainer = trainers.emplace_back(fc1.clone(), fc2.clone(), x, targets);
    for (int step = 0; step < 3; ++step) {
      trainer.step(tokens.data(), kTokens, 0.01, 0.02);
    }
  }
  at::set_num_threads(before);
  CHECK(at::equal(trainers[0].fc1(), trainers[1].fc1()));
  CHECK(at::equal(trainers[0].fc2(), trainers[1].fc2()));

  at::Tensor whole1 = fc1.clone();
  at::Tensor whole2 = fc2.clone();
  Adam adam1(whole1, {});
  Adam adam2(whole2, {});
  const at::Tensor seen = x.narrow(0, 30, kTokens);
  const at::Tensor weights = targets.weights.narrow(0, 30, kTokens).to(at::kFloat);
  for (uint64_t step = 1; step <= 3; ++step) {
    const at::Tensor hidden = at::mm(seen, whole1.t()).relu();
    const at::Tensor on = at::mm(hidden, whole2.t()).sigmoid();
    const at::Tensor error =
        at::where(weights > 0, weights * 1.5 * (on - 1), on) / static_cast<double>(kTokens);
    const at::Tensor back = at::mm(error, whole2) * at::gt(hidden, 0);
    adam1.step(at::mm(back.t(), seen), {.number = step, .rate = 0.01});
    adam2.step(at::mm(error.t(), hidden), {.number = step, .rate = 0.02});
  }
  // Adam makes a whole step of a gradient that is only rounding, so single values may differ.
  const auto distance = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().mean().item<double>();
  };
  CHECK(distance(trainers[0].fc1(), whole1) < 1e-5);
  CHECK(distance(trainers[0].fc2(), whole2) < 1e-5);
  CHECK(distance(fc2, whole2) > 1e-2);
}

TEST_CASE("Thresholds of many tokens are summed in parts that do not depend on threads",
          "[predict]") {
  const Layer layer = planted(2000);
  const at::Tensor k = outputs(layer);
  const PredictorScores scores{k + random(31, 2000, 160) * 1.5, k + random(32, 2000, 160) * 1.5};
  const int before = at::get_num_threads();
  std::vector<Thresholds> found;
  for (const int n : {1, 3}) {
    at::set_num_threads(n);
    found.push_back(need(calibrate_thresholds(k, layer.norms, scores, 0.99)));
  }
  at::set_num_threads(before);
  CHECK(found[0].recall >= 0.99);
  check_promise(layer, scores, found[0]);
  CHECK((found[0].sign == found[1].sign && found[0].mlp == found[1].mlp));
  CHECK((found[0].recall == found[1].recall && found[0].loaded == found[1].loaded));
}

TEST_CASE("Layers whose neurons are all silent or all active are fitted too", "[predict]") {
  const Layer layer = planted(256);
  for (const float sign : {-1.0f, 0.0f, 1.0f}) {
    const Layer same{at::ones_like(layer.x), at::full_like(layer.key, sign), layer.norms};
    const auto result = need(fit(same, {.mlp_options = {.epochs = 2}}));
    CHECK(at::isfinite(result.mlp.fc2).all().item<bool>());
    CHECK(result.thresholds.recall >= 0.99);
    CHECK(result.thresholds.active == (sign > 0 ? 1 : 0));
  }
}

TEST_CASE("Energies and thresholds of a case computed by hand", "[predict]") {
  const at::Tensor shares = energy_shares(matrix(3, {1, 1, -3, -1, -2, 0, 1e6f, 0, 0}),
                                          at::tensor(std::vector<float>{1, 3, 1}));
  CHECK(at::allclose(shares, matrix(3, {0.1f, 0.9f, 0, 0, 0, 0, 1, 0, 0})));
  // Energies 16, 1, 1, 0 and 1, 0, 0, 0.
  const at::Tensor k = matrix(4, {2, 1, 1, -1, 1, -1, -1, -5});
  const at::Tensor norms = at::tensor(std::vector<float>{1, 1, 1, 2});
  PredictorScores scores{matrix(4, {9, 5, 3, 1, 8, 7, 2, 0}), {}};
  // Without neurons 1 and 2 of the first token: recall (16/18 + 1)/2 = 17/18 with 2 of 8 named.
  const auto most = need(calibrate_thresholds(k, norms, scores, 0.94));
  CHECK((most.sign >= 7 && most.sign < 8 && most.mlp == kOff));
  CHECK(most.recall == Approx(17.0 / 18));
  CHECK((most.loaded == 0.25 && most.active == 0.5));
  // All of it needs the score 3 and with it 7 and 5.
  const auto all = need(calibrate_thresholds(k, norms, scores, 1));
  CHECK((all.recall == 1 && all.loaded == 5.0 / 8));
  // The MLP finds what the bits rank low: two halves name exactly the four that are active.
  scores.mlp = matrix(4, {0, 1, 1, 0, 0, 0, 0, 0});
  const auto both = need(calibrate_thresholds(k, norms, scores, 1.0));
  CHECK((both.recall == 1 && both.loaded == 0.5));
}

TEST_CASE("Thresholds reach the target and two halves need no more than one", "[predict]") {
  const Layer layer = planted(512);
  const at::Tensor k = outputs(layer);
  const PredictorScores scores{k + random(31, 512, 160) * 1.5, k + random(32, 512, 160) * 1.5};
  const double target = GENERATE(0.5, 0.9, 0.99, 0.999, 1.0);
  CAPTURE(target);
  std::vector<double> loaded;
  for (const auto& halves : {PredictorScores{scores.sign, {}}, {{}, scores.mlp}, scores}) {
    const auto found = need(calibrate_thresholds(k, layer.norms, halves, target));
    CHECK(found.recall >= target);
    check_promise(layer, halves, found);
    loaded.push_back(found.loaded);
  }
  CHECK(loaded[2] <= std::min(loaded[0], loaded[1]));
}

TEST_CASE("Two halves that see different neurons are used together", "[predict]") {
  const Layer layer = planted(512);
  const at::Tensor k = outputs(layer);
  const at::Tensor even = at::arange(160, at::kLong).remainder(2).eq(0);
  const at::Tensor blind = at::full_like(k, -100.0f);
  const PredictorScores scores{at::where(even, k, blind), at::where(even, blind, k)};
  const auto both = need(calibrate_thresholds(k, layer.norms, scores, 0.99));
  const auto exact = need(calibrate_thresholds(k, layer.norms, {k, {}}, 0.99));
  CHECK(both.loaded <= exact.loaded * 1.02);
}

TEST_CASE("A half that costs more than it saves is left out", "[predict]") {
  const Layer layer = planted(512);
  const at::Tensor k = outputs(layer);
  const PredictorScores scores{k + random(31, 512, 160) * 1.5, k + random(32, 512, 160) * 1.5};
  const auto with = [&](const HalfCosts& costs) {
    const auto found = need(calibrate_thresholds(k, layer.norms, scores, 0.99, costs));
    CHECK(found.recall >= 0.99);
    check_promise(layer, scores, found);
    CHECK(found.cost == Approx(found.loaded + (found.sign < kOff ? costs.sign : 0) +
                               (found.mlp < kOff ? costs.mlp : 0)));
    return found;
  };
  const auto free = with({});
  CHECK((free.sign < kOff && free.mlp < kOff));
  const auto alone = [&](const PredictorScores& half) {
    return need(calibrate_thresholds(k, layer.norms, half, 0.99)).loaded;
  };
  const double saved_by_sign = alone({{}, scores.mlp}) - free.loaded;
  REQUIRE(saved_by_sign > 0.01);
  CHECK(with({.sign = saved_by_sign * 0.9, .mlp = 0}).sign < kOff);
  CHECK(with({.sign = saved_by_sign * 1.1, .mlp = 0}).sign == kOff);
  CHECK(with({.sign = 0, .mlp = 1}).mlp == kOff);
  // By the stage's option: the fewer bits rows have, the dearer one bit for every weight is.
  const MlpOptions quick{.hidden = 16, .epochs = 8};
  const auto cost_of = [&](double bits) {
    return need(fit(layer, {.mlp = false, .row_bits = bits, .mlp_options = quick})).thresholds;
  };
  CHECK(cost_of(4).cost - cost_of(4).loaded == Approx(1.0 / 16));
  CHECK(cost_of(16).cost - cost_of(16).loaded == Approx(1.0 / 64));
}

TEST_CASE("A fitted predictor holds f16 numbers and what its thresholds promise", "[predict]") {
  const Layer layer = planted(1536);
  const MlpOptions quick{.hidden = 16, .epochs = 8};
  const auto [sign, mlp, thresholds] = need(fit(layer, {.mlp_options = quick}));
  for (const at::Tensor& numbers : {sign, mlp.fc1, mlp.fc2}) {
    CHECK(at::equal(numbers, numbers.to(at::kHalf).to(at::kFloat)));
  }
  const Layer held_out = tokens_of(layer, 1536 - 307, 307);
  check_promise(held_out, {at::mm(held_out.x, sign.t()), mlp.scores(held_out.x)}, thresholds);
  CHECK(thresholds.recall >= 0.99);
  CHECK(thresholds.loaded < 0.6);
  const auto mlp_only = need(fit(layer, {.sign = false, .mlp_options = quick}));
  CHECK((!mlp_only.sign.defined() && at::equal(mlp_only.mlp.fc2, mlp.fc2)));
  CHECK(thresholds.loaded <= mlp_only.thresholds.loaded);
  const auto sign_only = need(fit(layer, {.mlp = false}));
  CHECK((!sign_only.mlp.defined() && sign_only.thresholds.mlp == kOff));
  CHECK(thresholds.loaded <= sign_only.thresholds.loaded);
}

TEST_CASE("Predictors refuse invalid arguments", "[predict]") {
  const Layer layer = planted(256);
  refuses(fit(tokens_of(layer, 0, 255), {}), Code::Usage, "255");
  refuses(train(tokens_of(layer, 0, 255), {}), Code::Usage, "255");
  refuses(fit(layer, {.sign = false, .mlp = false}), Code::Usage, "neither");
  for (const double recall : {0.0, -1.0, 1.01, std::nan("")}) {
    refuses(fit(layer, {.recall = recall}), Code::Usage, "recall");
  }
  for (const MlpOptions& options :
       {MlpOptions{.hidden = 0}, MlpOptions{.hidden = -1}, MlpOptions{.hidden = 4 * 48 + 1},
        MlpOptions{.epochs = 0}, MlpOptions{.batch = 0}, MlpOptions{.learning_rate = 0},
        MlpOptions{.importance = 2}, MlpOptions{.load = -1}}) {
    refuses(train(layer, options), Code::Usage, "MLP predictor");
    refuses(fit(layer, {.mlp_options = options}), Code::Usage, "MLP predictor");
    REQUIRE_OK(fit(layer, {.mlp = false, .mlp_options = options}).status());
  }
}

TEST_CASE("Predictors refuse shapes that do not fit and numbers that are not finite", "[predict]") {
  const auto [x, key, norms] = planted(256);
  const auto damaged = [](const at::Tensor& tensor, float value) {
    return tensor.flatten().index_fill(0, at::scalar_tensor(3, at::kLong), value).view_as(tensor);
  };
  for (const float value : {std::nanf(""), HUGE_VALF}) {
    refuses(fit({damaged(x, value), key, norms}, {}), Code::BadInput, "inputs");
    refuses(fit({x, damaged(key, value), norms}, {}), Code::BadInput, "key");
    refuses(train({x, key, damaged(norms, value)}, {}), Code::BadInput, "norms");
  }
  refuses(train({x, key, damaged(norms, -1)}, {}), Code::Usage, "negative");
  refuses(train({x, key, norms.narrow(0, 0, 9)}, {}), Code::Usage, "160");
  refuses(train({x.narrow(1, 0, 9), key, norms}, {}), Code::Usage, "channels");
  refuses(train({{}, key, norms}, {}), Code::Usage, "inputs");
  refuses(train({x.to(at::kHalf), key, norms}, {}), Code::Usage, "f32");
  const at::Tensor k = outputs({x, key, norms});
  refuses(calibrate_thresholds(k, norms, {}, 0.99), Code::Usage, "no scores");
  refuses(calibrate_thresholds(k, norms, {k.narrow(0, 0, 9), {}}, 0.99), Code::Usage, "sign");
  refuses(calibrate_thresholds(k, norms, {{}, damaged(k, HUGE_VALF)}, 0.99), Code::BadInput, "MLP");
  refuses(calibrate_thresholds(k, norms, {k, {}}, 2), Code::Usage, "recall");
}

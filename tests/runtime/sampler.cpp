#include "runtime/text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

int32_t sample(Sampler& sampler, std::vector<float> logits) {
  return sampler.sample(logits);
}

std::vector<size_t> draws(const SamplerOptions& options, const std::vector<float>& logits,
                          size_t n_draws) {
  Sampler sampler(logits.size(), options);
  std::vector<size_t> counts(logits.size());
  std::vector<float> scratch;
  for (size_t i = 0; i < n_draws; ++i) {
    scratch = logits;
    ++counts.at(static_cast<size_t>(sampler.sample(scratch)));
  }
  return counts;
}

std::set<size_t> support(const SamplerOptions& options, const std::vector<float>& logits) {
  const std::vector<size_t> counts = draws(options, logits, 4000);
  std::set<size_t> ids;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > 0) {
      ids.insert(i);
    }
  }
  return ids;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  for (const float logit : logits) {
    p.push_back(std::exp(logit / temperature));
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) {
    value /= total;
  }
  return p;
}

/// Pearson's chi-square of `counts` against `p`; impossible outcomes must not occur.
double chi_square(const std::vector<size_t>& counts, const std::vector<double>& p) {
  const auto n = static_cast<double>(std::accumulate(counts.begin(), counts.end(), size_t{0}));
  double sum = 0.0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0.0) {
      REQUIRE(counts[i] == 0);
    } else {
      sum += std::pow(static_cast<double>(counts[i]) - n * p[i], 2) / (n * p[i]);
    }
  }
  return sum;
}

// 8 tokens have 7 degrees of freedom: 24.3 is passed by chance once in 1000 times.
constexpr double kLimit = 24.3;
const std::vector<float> kLogits = {0.5f, -1.0f, 2.0f, 0.0f, 1.5f, -0.5f, 1.0f, -2.0f};

TEST_CASE("check names the option, its range and what was found", "[sampler]") {
  CHECK(check(SamplerOptions{}).ok());
  CHECK(check({.temperature = 0.0f, .top_k = 40, .top_p = 0.3f, .presence_penalty = -2.0f}).ok());
  const auto refuses = [](const SamplerOptions& options, const std::string& start,
                          const std::string& found) {
    const Status status = check(options);
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Catch::StartsWith(start + ": ") && Catch::EndsWith(found));
  };
  refuses({.temperature = -0.5f}, "temperature", "found -0.5");
  refuses({.temperature = kNan}, "temperature", "found nan");
  refuses({.temperature = kInf}, "temperature", "found inf");
  refuses({.top_k = -1}, "top_k", "found -1");
  refuses({.top_p = 0.0f}, "top_p", "found 0");
  refuses({.top_p = 1.5f}, "top_p", "found 1.5");
  refuses({.top_p = kNan}, "top_p", "found nan");
  refuses({.presence_penalty = kInf}, "presence_penalty", "found inf");
  refuses({.frequency_penalty = kNan}, "frequency_penalty", "found nan");
  refuses({.penalty_decay = 1.01f}, "penalty_decay", "found 1.01");
  refuses({.penalty_decay = kNan}, "penalty_decay", "found nan");
}

TEST_CASE("Sampler draws from the softmax", "[sampler]") {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{2}, ~uint64_t{0}}) {
    CHECK(chi_square(draws({.seed = seed}, kLogits, 100000), softmax(kLogits, 1.0)) < kLimit);
  }
}

TEST_CASE("Sampler's temperature is a power of the probabilities", "[sampler]") {
  for (const float t : {0.3f, 0.7f, 1.7f, 10.0f}) {
    CHECK(chi_square(draws({.temperature = t, .seed = 3}, kLogits, 100000),
                     softmax(kLogits, static_cast<double>(t))) < kLimit);
  }
}

TEST_CASE("Sampler chooses top-p before it applies temperature", "[sampler]") {
  // Probabilities 0.4, 0.3, 0.2, 0.1: 0.65 keeps two of them at any temperature.
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f),
                                     std::log(0.3f)};
  for (const float t : {0.2f, 1.0f, 5.0f}) {
    CHECK(support({.temperature = t, .top_p = 0.65f}, logits) == std::set<size_t>{1, 3});
  }
  std::vector<double> p = {0.0, std::pow(0.4, 1 / 2.5), 0.0, std::pow(0.3, 1 / 2.5)};
  const double total = p[1] + p[3];
  p[1] /= total;
  p[3] /= total;
  const auto counts = draws({.temperature = 2.5f, .top_p = 0.65f, .seed = 9}, logits, 100000);
  CHECK(chi_square(counts, p) < 10.8);  // one degree of freedom, once in 1000 times
}

TEST_CASE("Sampler keeps exactly the tokens of top-k and top-p", "[sampler]") {
  CHECK(support({.temperature = 5.0f, .top_k = 3}, kLogits) == std::set<size_t>{2, 4, 6});
  CHECK(support({.temperature = 5.0f, .top_k = 8}, kLogits).size() == 8);
  CHECK(support({.temperature = 5.0f, .top_k = 100}, kLogits).size() == 8);
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f),
                                     std::log(0.3f)};
  const auto kept = [&](float top_p, int top_k) {
    return support({.temperature = 3.0f, .top_k = top_k, .top_p = top_p}, logits);
  };
  CHECK(kept(0.01f, 0) == std::set<size_t>{1});
  CHECK(kept(0.39f, 0) == std::set<size_t>{1});
  CHECK(kept(0.41f, 0) == std::set<size_t>{1, 3});
  CHECK(kept(0.69f, 0) == std::set<size_t>{1, 3});
  CHECK(kept(0.71f, 0) == std::set<size_t>{1, 2, 3});
  CHECK(kept(0.91f, 0) == std::set<size_t>{0, 1, 2, 3});
  // With both, top-p counts on all probabilities, not on those that top-k left.
  CHECK(kept(0.71f, 2) == std::set<size_t>{1, 3});
  CHECK(kept(0.41f, 3) == std::set<size_t>{1, 3});
  CHECK(kept(0.99f, 3) == std::set<size_t>{1, 2, 3});
}

TEST_CASE("Sampler's top-k and top-p agree with a full sort", "[sampler]") {
  constexpr size_t kVocab = 3000;
  for (uint64_t round = 0; round < 60; ++round) {
    std::vector<float> logits(kVocab);
    uint64_t x = round + 1;
    for (float& logit : logits) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      // Coarse steps make ties, wide and narrow ranges make few and many candidates.
      logit = static_cast<float>(x >> 58) * (round % 3 == 0 ? 0.01f : 0.25f);
    }
    const auto top_k = static_cast<int>(round % 4 == 0 ? 0 : 1 + round * 7);
    const float top_p = round % 5 == 0 ? 1.0f : 0.015f * static_cast<float>(round + 1);
    std::vector<size_t> order(kVocab);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return logits[a] > logits[b]; });
    const std::vector<double> p = softmax(logits, 1.0);
    size_t n_kept = 0;
    for (double sum = 0.0; n_kept < kVocab && sum < static_cast<double>(top_p); ++n_kept) {
      sum += p[order[n_kept]];
    }
    n_kept = top_p == 1.0f ? kVocab : n_kept;
    n_kept = top_k > 0 ? std::min(n_kept, static_cast<size_t>(top_k)) : n_kept;

    // sample() leaves the weights in its scratch: above 0 exactly for what is kept.
    Sampler sampler(kVocab, {.temperature = 2.0f, .top_k = top_k, .top_p = top_p, .seed = round});
    std::vector<float> weights = logits;
    const auto token = static_cast<size_t>(sampler.sample(weights));
    std::set<size_t> expected(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n_kept));
    if (top_k == 1) {
      CHECK(expected == std::set<size_t>{token});
      continue;
    }
    std::set<size_t> got;
    for (size_t i = 0; i < kVocab; ++i) {
      if (weights[i] > 0.0f) {
        got.insert(i);
      }
    }
    INFO("round " << round << " top_k " << top_k << " top_p " << top_p);
    CHECK(got == expected);
    CHECK(expected.count(token) == 1);
  }
}

TEST_CASE("Sampler takes the lowest id of equal logits", "[sampler]") {
  const std::vector<float> logits = {1.0f, 3.0f, 3.0f, 2.0f, 3.0f};
  Sampler cold(logits.size(), {.temperature = 0.0f});
  Sampler one(logits.size(), {.top_k = 1});
  Sampler zeros(2, {.temperature = 0.0f});
  CHECK(sample(cold, logits) == 1);
  CHECK(sample(one, logits) == 1);
  CHECK(sample(zeros, {-0.0f, 0.0f}) == 0);
  CHECK(support({.top_k = 2}, logits) == std::set<size_t>{1, 2});
  CHECK(support({.top_p = 0.5f}, std::vector<float>(8, 1.0f)) == std::set<size_t>{0, 1, 2, 3});
}

TEST_CASE("Sampler penalises what was accepted, with decay", "[sampler]") {
  // At temperature 1 without cuts the scratch ends as exp(logit - largest logit).
  const SamplerOptions options{
      .presence_penalty = 0.5f, .frequency_penalty = 0.25f, .penalty_decay = 0.5f};
  Sampler sampler(4, options);
  const auto penalties = [&] {
    std::vector<float> logits = {0.0f, 0.0f, 0.0f, 0.0f};
    sampler.sample(logits);
    std::vector<double> found;
    for (const float weight : logits) {
      found.push_back(-std::log(static_cast<double>(weight)));
    }
    return found;
  };
  const auto check_penalties = [&](const std::vector<double>& expected) {
    const std::vector<double> found = penalties();
    for (size_t i = 0; i < 4; ++i) {
      CHECK(found[i] == Approx(expected[i]).margin(1e-6));
    }
  };
  check_penalties({0, 0, 0, 0});
  sampler.accept(2);
  check_penalties({0, 0, 0.75, 0});
  check_penalties({0, 0, 0.75, 0});  // sampling alone counts nothing
  sampler.accept(2);
  check_penalties({0, 0, 0.5 + 0.25 * 1.5, 0});
  sampler.accept(0);
  check_penalties({0.75, 0, 0.5 + 0.25 * 0.75, 0});
  sampler.accept(-1);  // not in the vocabulary: decays, counts nothing
  sampler.accept(4);
  check_penalties({0.5 + 0.25 * 0.25, 0, 0.5 + 0.25 * 0.1875, 0});
  sampler.reset();
  check_penalties({0, 0, 0, 0});

  Sampler greedy(3, {.temperature = 0.0f, .presence_penalty = 1.0f, .penalty_decay = 0.0f});
  const std::vector<float> logits = {1.0f, 1.5f, 0.0f};
  CHECK(sample(greedy, logits) == 1);
  greedy.accept(1);
  CHECK(sample(greedy, logits) == 0);
  greedy.accept(0);  // a decay of 0 forgets all but the last
  CHECK(sample(greedy, logits) == 1);
}

TEST_CASE("Sampler gives the same tokens for the same seed", "[sampler]") {
  // Published outputs of SplitMix64 for seed 1234567; 8 equal logits take the top 3 bits.
  const std::vector<uint64_t> outputs = {6457827717110365317u, 3203168211198807973u,
                                         9817491932198370423u, 4593380528125082431u,
                                         16408922859458223821u};
  Sampler sampler(8, {.seed = 1234567});
  for (int round = 0; round < 2; ++round) {
    for (const uint64_t output : outputs) {
      CHECK(sample(sampler, std::vector<float>(8, 0.5f)) == static_cast<int32_t>(output >> 61));
    }
    sampler.reset();
  }
  Sampler other(8, {.seed = 1234568});
  std::vector<int32_t> first;
  std::vector<int32_t> second;
  for (int i = 0; i < 32; ++i) {
    first.push_back(sample(sampler, kLogits));
    second.push_back(sample(other, kLogits));
  }
  CHECK(first != second);
}

TEST_CASE("Sampler survives any logits", "[sampler]") {
  const std::vector<SamplerOptions> all = {
      {},
      {.temperature = 0.0f},
      {.top_k = 2},
      {.top_p = 0.5f},
      {.temperature = 1e-40f, .top_k = 3, .top_p = 0.9f},
      {.temperature = 1e30f, .presence_penalty = 100.0f, .frequency_penalty = 100.0f}};
  for (const SamplerOptions& options : all) {
    REQUIRE(check(options).ok());
    Sampler sampler(4, options);
    for (int i = 0; i < 50; ++i) {
      CHECK(sample(sampler, {kNan, kNan, kNan, kNan}) == 0);
      CHECK(sample(sampler, {-kInf, -kInf, -kInf, -kInf}) == 0);
      CHECK(sample(sampler, {kNan, -kInf, -5.0f, -kInf}) == 2);
      CHECK(sample(sampler, {1.0f, kNan, kInf, 3e38f}) == 2);
      const int32_t either = sample(sampler, {kInf, 0.0f, kNan, kInf});
      CHECK((either == 0 || either == 3));
      CHECK(sample(sampler, {}) == 0);
      CHECK(sample(sampler, {-kInf, 1.0f}) == 1);
      sampler.accept(i % 2);
    }
  }
  Sampler empty(0, {.top_k = 3, .top_p = 0.5f});
  CHECK(sample(empty, {1.0f, 2.0f}) == 0);
}

TEST_CASE("Logits from which nothing can be chosen are refused", "[sampler]") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(check_logits(std::vector<float>{1.0f, -inf, 3.4e38f}).ok());
  const auto refused = [](const std::vector<float>& logits, const char* says) {
    const Status status = check_logits(logits);
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains(says));
  };
  refused({1.0f, kNan, 2.0f, kNan}, "nan for token 1 and 1 more");
  refused({1.0f, -inf, inf}, "inf for token 2 and 0 more");
  refused({-inf, -inf}, "-inf for token 0 and 1 more");
}

}  // namespace
}  // namespace rwkv::edge

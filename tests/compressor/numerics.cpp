// What several algorithms compute with: random numbers, Adam, k-means, work in tiles.
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "compressor/numerics/adam.h"
#include "compressor/numerics/kmeans.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;

namespace {

at::Tensor noise(uint64_t seed, std::vector<int64_t> shape) {
  press::Random random(seed);
  at::Tensor result = at::empty(shape);
  for (int64_t i = 0; i < result.numel(); ++i) {
    result.data_ptr<float>()[i] = static_cast<float>(random.uniform() - 0.5);
  }
  return result;
}

// Weighted squared distance of sorted values to the mean of their part, for parts [begin, end).
double cost_of_part(const std::vector<double>& values, const std::vector<double>& weights,
                    size_t begin, size_t end) {
  double total = 0;
  double mean = 0;
  for (size_t i = begin; i < end; ++i) {
    total += weights[i];
    mean += weights[i] * values[i];
  }
  mean /= total;
  double cost = 0;
  for (size_t i = begin; i < end; ++i) {
    cost += weights[i] * (values[i] - mean) * (values[i] - mean);
  }
  return cost;
}

// The least cost of three parts of sorted values: an optimal codebook of scalars cuts them so.
double least_of_three(const std::vector<double>& values, const std::vector<double>& weights) {
  double least = std::numeric_limits<double>::infinity();
  for (size_t a = 1; a + 1 < values.size(); ++a) {
    for (size_t b = a + 1; b < values.size(); ++b) {
      least = std::min(least, cost_of_part(values, weights, 0, a) +
                                  cost_of_part(values, weights, a, b) +
                                  cost_of_part(values, weights, b, values.size()));
    }
  }
  return least;
}

double cost_of(const press::KMeans& found, const std::vector<double>& values,
               const std::vector<double>& weights) {
  double cost = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t label = found.labels.data_ptr<int64_t>()[i];
    const double gap = values[i] - double{found.centroids.data_ptr<float>()[label]};
    cost += weights[i] * gap * gap;
  }
  return cost;
}

}  // namespace

TEST_CASE("Random numbers are those that the engines' authors publish", "[numerics]") {
  press::SplitMix64 splitmix(1234567);
  for (const uint64_t expected : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                  4593380528125082431u, 16408922859458223821u}) {
    CHECK(splitmix() == expected);
  }
  press::Random random(5489);
  for (int i = 1; i < 10000; ++i) {
    random.next();
  }
  CHECK(random.next() == 9981545732273789042u);  // [rand.predef]
}

TEST_CASE("All ways to write Adam's means are Adam", "[numerics]") {
  using Mean = press::AdamOptions::Mean;
  const Mean mean = GENERATE(Mean::Weighted, Mean::Increment);
  press::AdamOptions options{0.8, 0.95, 1e-3, mean};
  const at::Tensor values = noise(1, {70000});
  at::Tensor exact = values.to(at::kDouble);
  at::Tensor m = at::zeros_like(exact);
  at::Tensor s = at::zeros_like(exact);
  press::Adam adam(values, options);
  for (uint64_t step = 1; step <= 6; ++step) {
    const at::Tensor gradient = noise(10 + step, {70000});
    adam.step(gradient, {.number = step, .rate = 0.02});
    const at::Tensor g = gradient.to(at::kDouble);
    m = 0.8 * m + 0.2 * g;
    s = 0.95 * s + 0.05 * g * g;
    const auto n = static_cast<double>(step);
    exact -= 0.02 * (m / (1 - std::pow(0.8, n))) /
             ((s / (1 - std::pow(0.95, n))).sqrt() + options.epsilon);
    CHECK((values.to(at::kDouble) - exact).abs().max().item<double>() < 1e-6);
  }
  CHECK((adam.mean().to(at::kDouble) - m).abs().max().item<double>() < 1e-6);
  CHECK((adam.square().to(at::kDouble) - s).abs().max().item<double>() < 1e-6);
}

TEST_CASE("Adam gives the same bits with any number of threads", "[numerics]") {
  const int before = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    results.push_back(noise(1, {100000}));
    press::Adam adam(results.back(), {});
    for (uint64_t step = 1; step <= 3; ++step) {
      adam.step(noise(step, {100000}), {.number = step, .rate = 0.01, .decay = 0.1});
    }
  }
  at::set_num_threads(before);
  CHECK(at::equal(results[1], results[0]));
  CHECK(at::equal(results[2], results[0]));
}

TEST_CASE("k-means finds the best codebook of a few scalars", "[numerics]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const at::Tensor rows = std::get<0>(noise(seed, {14, 1}).sort(0));
    const at::Tensor weights = noise(seed + 100, {14}).add(0.6);
    const std::vector<double> values = press::to_doubles(rows);
    const std::vector<double> counts = press::to_doubles(weights);
    double least = std::numeric_limits<double>::infinity();
    for (uint64_t start = 0; start < 40; ++start) {
      const auto found = press::kmeans(rows, weights, {3, 0, 50, start});
      REQUIRE_OK(found.status());
      least = std::min(least, cost_of(found.value(), values, counts));
      // Centroids are the weighted means of their rows.
      at::Tensor means = at::empty_like(found.value().centroids);
      const int64_t* labels = found.value().labels.data_ptr<int64_t>();
      press::weighted_means(rows, counts, {labels, labels + 14}, means);
      CHECK(at::equal(means, found.value().centroids));
    }
    CHECK(least == Approx(least_of_three(values, counts)).epsilon(1e-5));
  }
}

TEST_CASE("Work in tiles covers everything once", "[numerics]") {
  const int64_t n = GENERATE(0, 1, 7, 8, 9, 100);
  std::vector<int> seen(static_cast<size_t>(n), 0);
  press::in_tiles(n, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      seen[static_cast<size_t>(i)] += end - begin <= 8 ? 1 : 100;
    }
  });
  CHECK(seen == std::vector<int>(static_cast<size_t>(n), 1));
}

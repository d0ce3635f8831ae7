// The knapsack of the planner against trying everything.
#include "compressor/planner/knapsack.h"

#include <random>

#include "tests/support/catch.h"

using namespace rwkv;
using press::KnapsackOption;

namespace {

using Components = std::vector<std::vector<KnapsackOption>>;

struct Sum {
  uint64_t bytes = 0;
  double loss = 0;
};

Sum sum_of(const Components& components, const std::vector<size_t>& choice) {
  Sum sum;
  for (size_t i = 0; i < components.size(); ++i) {
    sum.bytes += components[i][choice[i]].bytes;
    sum.loss += components[i][choice[i]].loss;
  }
  return sum;
}

// Every choice tried; the least loss within the budget, nothing if none fits.
std::optional<double> least_loss(const Components& components, uint64_t budget) {
  std::optional<double> least;
  std::vector<size_t> choice(components.size());
  while (true) {
    const Sum sum = sum_of(components, choice);
    if (sum.bytes <= budget && (!least || sum.loss < *least)) {
      least = sum.loss;
    }
    size_t i = 0;
    while (i < choice.size() && ++choice[i] == components[i].size()) {
      choice[i++] = 0;
    }
    if (i == choice.size()) {
      return least;
    }
  }
}

Components random_components(std::mt19937_64& random, uint64_t most_bytes) {
  Components components(1 + random() % 5);
  for (auto& options : components) {
    options.resize(1 + random() % 5);
    for (KnapsackOption& option : options) {
      option.bytes = random() % most_bytes;
      option.loss = static_cast<double>(random() % 2000) / 1000.0 - 0.5;
    }
  }
  return components;
}

}  // namespace

TEST_CASE("The knapsack finds what trying everything finds", "[planner]") {
  std::mt19937_64 random(5);
  for (int i = 0; i < 400; ++i) {
    const Components components = random_components(random, 60);
    const uint64_t budget = random() % 200;
    const auto choice = press::choose_options(components, budget);
    const std::optional<double> least = least_loss(components, budget);
    REQUIRE(choice.has_value() == least.has_value());
    if (choice) {
      const Sum sum = sum_of(components, *choice);
      REQUIRE(sum.bytes <= budget);
      REQUIRE(sum.loss == Approx(*least).margin(1e-12));
    }
    REQUIRE((press::least_bytes(components) <= budget) == least.has_value());
  }
}

TEST_CASE("In units of many bytes the knapsack stays within the budget", "[planner]") {
  std::mt19937_64 random(6);
  for (int i = 0; i < 200; ++i) {
    const Components components = random_components(random, 1'000'000);
    const uint64_t budget = press::least_bytes(components) + random() % 2'000'000;
    const auto choice = press::choose_options(components, budget, 1 << 12);
    REQUIRE(choice.has_value());
    const Sum sum = sum_of(components, *choice);
    CHECK(sum.bytes <= budget);
    // What is lost by rounding is less than what the exact choice has with a unit less for each.
    const uint64_t unit = 2'000'000 / (1 << 12) + 1;
    const uint64_t spare = std::min(budget, unit * (components.size() + 1));
    if (const auto least = least_loss(components, budget - spare)) {
      CHECK(sum.loss <= *least + 1e-9);
    }
  }
}

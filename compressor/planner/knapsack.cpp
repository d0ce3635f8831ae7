#include "compressor/planner/knapsack.h"

#include <algorithm>
#include <limits>

namespace rwkv::press {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

uint64_t least_of(const std::vector<KnapsackOption>& options) {
  uint64_t least = UINT64_MAX;
  for (const KnapsackOption& option : options) {
    least = std::min(least, option.bytes);
  }
  return least;
}

uint64_t most_of(const std::vector<KnapsackOption>& options) {
  uint64_t most = 0;
  for (const KnapsackOption& option : options) {
    most = std::max(most, option.bytes);
  }
  return most;
}

}  // namespace

uint64_t least_bytes(const std::vector<std::vector<KnapsackOption>>& components) {
  uint64_t sum = 0;
  for (const auto& options : components) {
    sum += least_of(options);
  }
  return sum;
}

std::optional<std::vector<size_t>> choose_options(
    const std::vector<std::vector<KnapsackOption>>& components, uint64_t budget, size_t max_units) {
  const uint64_t least = least_bytes(components);
  if (least > budget) {
    return std::nullopt;
  }
  const uint64_t spare = budget - least;
  uint64_t all = 0;
  for (const auto& options : components) {
    all += most_of(options) - least_of(options);
  }
  const uint64_t unit = std::max<uint64_t>(1, (std::min(all, spare) + max_units - 1) / max_units);
  // Rounded up, everything that there is to buy may take more units than its bytes.
  const auto n_units = static_cast<size_t>(std::min(spare / unit, all / unit + components.size()));
  // best[u]: the least loss of the components so far with u units spent at most exactly; taken[c]
  // says which option of component c that was.
  std::vector<double> best(n_units + 1, kNone);
  best[0] = 0;
  std::vector<std::vector<uint8_t>> taken;
  std::vector<std::vector<size_t>> costs;
  for (const auto& options : components) {
    const uint64_t base = least_of(options);
    std::vector<size_t>& cost = costs.emplace_back();
    for (const KnapsackOption& option : options) {
      cost.push_back(static_cast<size_t>((option.bytes - base + unit - 1) / unit));
    }
    std::vector<double> next(n_units + 1, kNone);
    std::vector<uint8_t>& chosen = taken.emplace_back(n_units + 1);
    for (size_t o = 0; o < options.size(); ++o) {
      for (size_t u = cost[o]; u <= n_units; ++u) {
        const double loss = best[u - cost[o]] + options[o].loss;
        if (loss < next[u]) {
          next[u] = loss;
          chosen[u] = static_cast<uint8_t>(o);
        }
      }
    }
    best = std::move(next);
  }
  auto at = static_cast<size_t>(std::min_element(best.begin(), best.end()) - best.begin());
  std::vector<size_t> choice(components.size());
  for (size_t c = components.size(); c-- > 0;) {
    choice[c] = taken[c][at];
    at -= costs[c][choice[c]];
  }
  return choice;
}

}  // namespace rwkv::press

#include "compressor/selectors/proxies.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/base/half.h"

namespace rwkv::press {
namespace {

// Between neighbours, which are sorted here.
std::vector<float> gaps_of(std::vector<float> weights) {
  std::sort(weights.begin(), weights.end());
  std::vector<float> gaps(weights.size() - 1);
  for (size_t i = 0; i < gaps.size(); ++i) {
    gaps[i] = weights[i + 1] - weights[i];
  }
  return gaps;
}

GapProxies proxies_of_gaps(const std::vector<float>& gaps) {
  double sum = 0;
  for (const float gap : gaps) {
    sum += static_cast<double>(gap);
  }
  GapProxies result;
  if (!(sum > 0)) {
    return result;
  }
  const auto n = static_cast<double>(gaps.size());
  double negative_entropy = 0;
  double squares = 0;
  double cubes = 0;
  double fourths = 0;
  for (const float gap : gaps) {
    const double p = static_cast<double>(gap) / sum;
    negative_entropy += p > 0 ? p * std::log(p) : 0;
    const double e = n * p - 1;
    squares += e * e;
    cubes += e * e * e;
    fourths += e * e * e * e;
  }
  result.coarse = std::max(0.0, std::log(n) + negative_entropy);
  result.fine = squares / n / 2 + std::abs(cubes / n) / 6 + fourths / n / 12;
  return result;
}

double crest_of(std::span<const float> weights) {
  double largest = 0;
  double energy = 0;
  for (const float weight : weights) {
    const double w = static_cast<double>(weight);
    largest = std::max(largest, std::abs(w));
    energy += w * w;
  }
  return energy > 0 ? largest / std::sqrt(energy / static_cast<double>(weights.size())) : 0;
}

}  // namespace

Proxies proxies_of(std::span<const float> weights) {
  Proxies result;
  if (weights.size() < 2) {
    return result;
  }
  result.literal = proxies_of_gaps(gaps_of({weights.begin(), weights.end()}));
  std::vector<float> halves(weights.size());
  static constexpr float kMostHalf = 65504;
  std::transform(weights.begin(), weights.end(), halves.begin(), [](float weight) {
    return f16_to_f32(f32_to_f16(std::clamp(weight, -kMostHalf, kMostHalf)));
  });
  std::vector<float> gaps = gaps_of(std::move(halves));
  std::sort(gaps.begin(), gaps.end());
  gaps.erase(std::unique(gaps.begin(), gaps.end()), gaps.end());
  std::erase(gaps, 0.0f);
  result.unique = proxies_of_gaps(gaps);
  result.crest = crest_of(weights);
  return result;
}

}  // namespace rwkv::press

#include "compressor/quantizers/codebook.h"

#include <algorithm>
#include <cmath>

#include "formats/base/half.h"

namespace rwkv::press {
namespace {

constexpr int kRounds = 100;

// Points at even ranks of their distance from the mean: from the middle outwards.
std::vector<float> first_centroids(const std::vector<WeightedValue>& points, int64_t n) {
  double sum = 0;
  for (const WeightedValue& point : points) {
    sum += static_cast<double>(point.value);
  }
  const auto mean = static_cast<float>(sum / static_cast<double>(points.size()));
  std::vector<float> values;
  values.reserve(points.size());
  for (const WeightedValue& point : points) {
    values.push_back(point.value);
  }
  std::stable_sort(values.begin(), values.end(),
                   [&](float a, float b) { return std::abs(a - mean) < std::abs(b - mean); });
  std::vector<float> centroids;
  for (int64_t k = 0; k < n; ++k) {
    const auto last = static_cast<int64_t>(values.size()) - 1;
    centroids.push_back(values[static_cast<size_t>(n > 1 ? k * last / (n - 1) : last / 2)]);
  }
  std::sort(centroids.begin(), centroids.end());
  return centroids;
}

// Sums over the points up to each, so that a cluster, which is a stretch of them, has its mean at
// once.
struct Sums {
  explicit Sums(const std::vector<WeightedValue>& points)
      : weights(points.size() + 1), products(points.size() + 1) {
    for (size_t i = 0; i < points.size(); ++i) {
      const double weight = static_cast<double>(points[i].weight);
      weights[i + 1] = weights[i] + weight;
      products[i + 1] = products[i] + weight * static_cast<double>(points[i].value);
    }
  }
  std::vector<double> weights;
  std::vector<double> products;
};

}  // namespace

std::vector<float> centroids_of(std::vector<WeightedValue>& points, int64_t n) {
  std::stable_sort(
      points.begin(), points.end(),
      [](const WeightedValue& a, const WeightedValue& b) { return a.value < b.value; });
  std::vector<float> centroids = first_centroids(points, n);
  const Sums sums(points);
  for (int round = 0; round < kRounds; ++round) {
    bool moved = false;
    size_t begin = 0;
    for (size_t k = 0; k < centroids.size(); ++k) {
      size_t end = points.size();
      if (k + 1 < centroids.size()) {
        const float limit = 0.5f * (centroids[k] + centroids[k + 1]);
        end = static_cast<size_t>(
            std::lower_bound(
                points.begin() + static_cast<std::ptrdiff_t>(begin), points.end(), limit,
                [](const WeightedValue& point, float at) { return point.value < at; }) -
            points.begin());
      }
      const double weight = sums.weights[end] - sums.weights[begin];
      if (weight > 0) {
        const auto mean = static_cast<float>((sums.products[end] - sums.products[begin]) / weight);
        moved = moved || mean != centroids[k];
        centroids[k] = mean;
      }
      begin = end;
    }
    if (!moved) {
      break;
    }
  }
  std::sort(centroids.begin(), centroids.end());
  return centroids;
}

void round_codebook(std::span<float> centroids) {
  constexpr float kMostByte = 127;
  constexpr float kMostHalf = 65504;
  float largest = 0;
  for (const float centroid : centroids) {
    largest = std::max(largest, std::abs(centroid));
  }
  const float scale = f16_to_f32(f32_to_f16(std::min(largest / kMostByte, kMostHalf)));
  for (float& centroid : centroids) {
    centroid =
        scale > 0 ? scale * std::clamp(std::round(centroid / scale), -kMostByte, kMostByte) : 0.0f;
  }
}

}  // namespace rwkv::press

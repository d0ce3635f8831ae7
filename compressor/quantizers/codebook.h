// A few values for many weights, found by k-means: what codes without scales stand for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rwkv::press {

/// A value and how much it counts, finite and not below 0.
struct WeightedValue {
  float value;
  float weight;
};

/// `n` centroids of the points, ascending, by weighted k-means as GPTVQ has it (arXiv 2402.15319):
/// the start are points at even ranks of their distance from the mean, then at most 100 rounds of
/// Lloyd. A centroid that loses its points stays where it was. The points are sorted by value.
std::vector<float> centroids_of(std::vector<WeightedValue>& points, int64_t n);

/// Centroids as a codebook stores them: signed bytes times a half float; in place, still ascending.
void round_codebook(std::span<float> centroids);

/// The index of the nearest value of an ascending codebook; ties go to the greater.
inline uint8_t nearest_of(std::span<const float> codebook, float value) {
  size_t begin = 0;
  size_t n = codebook.size() - 1;  // limits between neighbours
  while (n > 0) {
    const size_t half = n / 2;
    const float limit = 0.5f * (codebook[begin + half] + codebook[begin + half + 1]);
    if (value >= limit) {
      begin += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return static_cast<uint8_t>(begin);
}

}  // namespace rwkv::press

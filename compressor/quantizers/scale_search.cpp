#include "compressor/quantizers/scale_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

namespace rwkv::press {
namespace {

constexpr int kTries = 25;
constexpr float kLeastTry = 0.55f;
constexpr float kMostTry = 1.15f;

class Search {
 public:
  Search(const LutCodebook& codebook, std::span<const float> x, std::span<const float> weights,
         float unit)
      : codebook_(codebook), x_(x), weights_(weights), unit_(unit) {}

  void try_scale(int scale) {
    const float now = error(unit_ * static_cast<float>(scale));
    if (now < least_) {
      least_ = now;
      best_ = scale;
    }
  }

  // The scale of least squares for the codes of the best one, rounded down and up.
  void try_fit() {
    if (best_ == 0) {
      return;
    }
    const float inverse = 1 / (unit_ * static_cast<float>(best_));
    double product = 0;
    double square = 0;
    for (size_t i = 0; i < x_.size(); ++i) {
      const double value = codebook_.value(codebook_.nearest(x_[i] * inverse));
      const double weight = weights_.empty() ? 1.0 : static_cast<double>(weights_[i]);
      product += weight * value * static_cast<double>(x_[i]);
      square += weight * value * value;
    }
    if (square > 0) {
      const double limit = kMaxScale;
      const double fit = std::clamp(product / square / static_cast<double>(unit_), -limit, limit);
      try_scale(static_cast<int>(std::floor(fit)));
      try_scale(static_cast<int>(std::ceil(fit)));
    }
  }

  int best() const { return best_; }

 private:
  // Sum of weight * (x - step * nearest)^2.
  float error(float step) const {
    const float inverse = step != 0 ? 1 / step : 0;
    float sum = 0;
    if (weights_.empty()) {
      for (const float x : x_) {
        const float difference = x - step * codebook_.value(codebook_.nearest(x * inverse));
        sum += difference * difference;
      }
      return sum;
    }
    for (size_t i = 0; i < x_.size(); ++i) {
      const float difference = x_[i] - step * codebook_.value(codebook_.nearest(x_[i] * inverse));
      sum += weights_[i] * difference * difference;
    }
    return sum;
  }

  const LutCodebook& codebook_;
  std::span<const float> x_;
  std::span<const float> weights_;
  float unit_;
  float least_ = INFINITY;
  int best_ = 0;
};

}  // namespace

float unit_for(const LutCodebook& codebook, float largest) {
  return kMostTry * largest / codebook.most() / kMaxScale;
}

int best_scale(const LutCodebook& codebook, std::span<const float> x,
               std::span<const float> weights, float unit, int also) {
  float largest = 0;
  for (const float each : x) {
    largest = std::max(largest, std::abs(each));
  }
  if (largest == 0 || !std::isfinite(1 / unit)) {
    return 0;
  }
  Search search(codebook, x, weights, unit);
  search.try_scale(also);
  const float whole = largest / codebook.most() / unit;
  int before = 0;
  for (int i = 0; i < kTries; ++i) {
    const float share = kLeastTry + (kMostTry - kLeastTry) * static_cast<float>(i) / (kTries - 1);
    const auto scale =
        static_cast<int>(std::lround(std::min(whole * share, static_cast<float>(kMaxScale))));
    if (scale != before) {  // else the unit is coarse here
      search.try_scale(scale);
      search.try_scale(-scale);
      before = scale;
    }
  }
  search.try_fit();
  return search.best();
}

}  // namespace rwkv::press

#include "compressor/quantizers/scale_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "formats/base/half.h"

namespace rwkv::press {
namespace {

constexpr int kTries = 25;
constexpr float kLeastTry = 0.55f;
constexpr float kMostTry = 1.15f;

// Scales are steps of `unit`: integers, or with `halves` half floats.
class Search {
 public:
  Search(const LutCodebook& codebook, std::span<const float> x, std::span<const float> weights,
         float unit, bool halves)
      : codebook_(codebook), x_(x), weights_(weights), unit_(unit), halves_(halves) {}

  void try_scale(float scale) {
    const float now = error(unit_ * scale);
    if (now < least_) {
      least_ = now;
      best_ = scale;
    }
  }

  // Sizes around the one that reaches the largest |x|, both signs.
  void try_sizes(float whole) {
    float before = 0;
    for (int i = 0; i < kTries; ++i) {
      const float share = kLeastTry + (kMostTry - kLeastTry) * static_cast<float>(i) / (kTries - 1);
      const float scale = halves_ ? half_scale(static_cast<double>(whole * share))
                                  : static_cast<float>(std::lround(
                                        std::min(whole * share, static_cast<float>(kMaxScale))));
      if (scale != before) {  // else the unit is coarse here
        try_scale(scale);
        try_scale(-scale);
        before = scale;
      }
    }
  }

  // The scale of least squares for the codes of the best one, as steps can be.
  void try_fit() {
    if (best_ == 0) {
      return;
    }
    const float inverse = 1 / (unit_ * best_);
    double product = 0;
    double square = 0;
    for (size_t i = 0; i < x_.size(); ++i) {
      const double value = codebook_.value(codebook_.nearest(x_[i] * inverse));
      const double weight = weights_.empty() ? 1.0 : static_cast<double>(weights_[i]);
      product += weight * value * static_cast<double>(x_[i]);
      square += weight * value * value;
    }
    if (square > 0 && halves_) {
      try_scale(half_scale(product / square));
    } else if (square > 0) {
      const double limit = kMaxScale;
      const double fit = std::clamp(product / square / static_cast<double>(unit_), -limit, limit);
      try_scale(static_cast<float>(std::floor(fit)));
      try_scale(static_cast<float>(std::ceil(fit)));
    }
  }

  float best() const { return best_; }

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
  bool halves_;
  float least_ = INFINITY;
  float best_ = 0;
};

float largest_of(std::span<const float> x) {
  float largest = 0;
  for (const float each : x) {
    largest = std::max(largest, std::abs(each));
  }
  return largest;
}

}  // namespace

float unit_for(const LutCodebook& codebook, float largest) {
  return kMostTry * largest / codebook.most() / kMaxScale;
}

int best_scale(const LutCodebook& codebook, std::span<const float> x,
               std::span<const float> weights, float unit, int also) {
  const float largest = largest_of(x);
  if (largest == 0 || !std::isfinite(1 / unit)) {
    return 0;
  }
  Search search(codebook, x, weights, unit, false);
  search.try_scale(static_cast<float>(also));
  search.try_sizes(largest / codebook.most() / unit);
  search.try_fit();
  return static_cast<int>(search.best());
}

float best_half_scale(const LutCodebook& codebook, std::span<const float> x,
                      std::span<const float> weights, float also) {
  const float largest = largest_of(x);
  if (largest == 0) {
    return 0;
  }
  Search search(codebook, x, weights, 1, true);
  search.try_scale(also);
  search.try_sizes(largest / codebook.most());
  search.try_fit();
  return search.best();
}

float half_scale(double scale) {
  constexpr double kMostHalf = 65504;
  return f16_to_f32(f32_to_f16(static_cast<float>(std::clamp(scale, -kMostHalf, kMostHalf))));
}

}  // namespace rwkv::press

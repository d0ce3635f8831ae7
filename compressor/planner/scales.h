// How measured losses compare with estimated ones, by kind of choice.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace rwkv::press {

/// Logarithms of ratios, by kind.
class Scales {
 public:
  void add(const std::string& kind, double estimated, double measured) {
    if (estimated > kLeastMeasured && measured > kLeastMeasured) {
      kinds_[kind].push_back(std::log(measured / estimated));
      all_.push_back(kinds_[kind].back());
    }
  }

  /// What estimates of a kind are multiplied with: drawn towards the median of all kinds the fewer
  /// samples the kind has. A token that chance decides can make a single ratio any number, so what
  /// is far from the median is cut.
  double of(const std::string& kind) const {
    if (all_.empty()) {
      return 1;
    }
    std::vector<double> sorted = all_;
    std::sort(sorted.begin(), sorted.end());
    const double middle = sorted[sorted.size() / 2];
    double sum = middle;
    double n = 1;
    if (const auto found = kinds_.find(kind); found != kinds_.end()) {
      for (const double ratio : found->second) {
        sum += std::clamp(ratio, middle - kFarthest, middle + kFarthest);
        n += 1;
      }
    }
    return std::exp(sum / n);
  }

 private:
  static constexpr double kLeastMeasured = 1e-7;  // KL that is more than rounding
  static constexpr double kFarthest = 1.4;        // a factor of 4
  std::map<std::string, std::vector<double>> kinds_;
  std::vector<double> all_;
};

}  // namespace rwkv::press

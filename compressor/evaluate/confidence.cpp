#include "compressor/evaluate/confidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rwkv::press {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5 % of a standard normal lie below

}  // namespace

Interval Estimate::interval() const {
  return {value - kZ * standard_error, value + kZ * standard_error};
}

Estimate exponential(const Estimate& nats) {
  const double value = std::exp(nats.value);
  return {value, value * nats.standard_error};
}

Interval exponential(const Interval& nats) {
  return {std::exp(nats.low), std::exp(nats.high)};
}

Interval wilson_interval(uint64_t right, uint64_t n) {
  const auto count = static_cast<double>(n);
  const double p = static_cast<double>(right) / count;
  const double z2 = kZ * kZ;
  const double middle = p + z2 / (2.0 * count);
  const double half = kZ * std::sqrt((p * (1.0 - p) + z2 / (4.0 * count)) / count);
  const double scale = 1.0 + z2 / count;
  return {std::max(0.0, (middle - half) / scale), std::min(1.0, (middle + half) / scale)};
}

Estimate mean_estimate(double sum, double sum_of_squares, uint64_t n) {
  const auto count = static_cast<double>(n);
  const double mean = sum / count;
  if (n < 2) {
    return {mean, std::numeric_limits<double>::quiet_NaN()};
  }
  const double variance = std::max(0.0, sum_of_squares / count - mean * mean);
  return {mean, std::sqrt(variance / (count - 1.0))};
}

}  // namespace rwkv::press

// How sure a figure is: standard errors and 95 % confidence intervals.
#pragma once

#include <cstdint>

namespace rwkv::press {

struct Interval {
  double low = 0.0;
  double high = 0.0;
};

/// A mean or a ratio with its standard error; NaN where that cannot be told.
struct Estimate {
  double value = 0.0;
  double standard_error = 0.0;

  /// Normal approximation: value -+ 1.96 standard errors.
  Interval interval() const;
};

/// Perplexity from nats: exp(value), its standard error to first order.
Estimate exponential(const Estimate& nats);
/// exp() of both ends, which unlike the approximation around exp(value) stays positive.
Interval exponential(const Interval& nats);

/// Of a share of `n` independent trials of which `right` succeeded; n > 0. Wilson, "Probable
/// inference, the law of succession, and statistical inference", JASA 22 (1927): unlike the normal
/// approximation right for few trials and for shares near 0 and 1.
Interval wilson_interval(uint64_t right, uint64_t n);

/// The mean of `n` independent numbers from their sum and the sum of their squares; n > 0.
/// Standard error sqrt(variance / (n - 1)), NaN for n = 1.
Estimate mean_estimate(double sum, double sum_of_squares, uint64_t n);

}  // namespace rwkv::press

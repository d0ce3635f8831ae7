#include "compressor/evaluate/block_ratio.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rwkv::press {

BlockRatio::BlockRatio(uint64_t n)
    : length_(std::max<uint64_t>(1, static_cast<uint64_t>(std::sqrt(static_cast<double>(n))))) {}

void BlockRatio::add(double numerator, double denominator) {
  if (blocks_.empty() || in_last_ == length_) {
    blocks_.emplace_back();
    in_last_ = 0;
  }
  blocks_.back().numerator += numerator;
  blocks_.back().denominator += denominator;
  ++in_last_;
}

Estimate BlockRatio::estimate() const {
  Sums all;
  for (const Sums& block : blocks_) {
    all.numerator += block.numerator;
    all.denominator += block.denominator;
  }
  const double ratio = all.numerator / all.denominator;
  if (blocks_.size() < 2) {
    return {ratio, std::numeric_limits<double>::quiet_NaN()};
  }
  double squares = 0.0;
  for (const Sums& block : blocks_) {
    const double residual = block.numerator - ratio * block.denominator;
    squares += residual * residual;
  }
  const auto n = static_cast<double>(blocks_.size());
  return {ratio, std::sqrt(n / (n - 1.0) * squares) / all.denominator};
}

}  // namespace rwkv::press

// How alike two lists of values order the same things.
#pragma once

#include <vector>

namespace rwkv::press {

/// Spearman's coefficient of lists of equal length, equal values sharing the mean of their ranks;
/// 0 where one has only equal values.
double rank_correlation(const std::vector<double>& left, const std::vector<double>& right);

}  // namespace rwkv::press

#include "compressor/planner/rank_correlation.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace rwkv::press {
namespace {

// Ranks from 0; the mean of their ranks for what is equal.
std::vector<double> ranks_in(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    while (end < order.size() && values[order[end]] == values[order[i]]) {
      ++end;
    }
    for (size_t at = i; at < end; ++at) {
      ranks[order[at]] = static_cast<double>(i + end - 1) / 2;
    }
    i = end;
  }
  return ranks;
}

}  // namespace

double rank_correlation(const std::vector<double>& left, const std::vector<double>& right) {
  const std::vector<double> a = ranks_in(left);
  const std::vector<double> b = ranks_in(right);
  const double middle = (static_cast<double>(a.size()) - 1) / 2;
  double together = 0;
  double of_a = 0;
  double of_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    together += (a[i] - middle) * (b[i] - middle);
    of_a += (a[i] - middle) * (a[i] - middle);
    of_b += (b[i] - middle) * (b[i] - middle);
  }
  return of_a > 0 && of_b > 0 ? together / std::sqrt(of_a * of_b) : 0;
}

}  // namespace rwkv::press

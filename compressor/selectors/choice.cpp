#include "compressor/selectors/choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace rwkv::press {
namespace {

// Indices of `values`, the least first.
std::vector<size_t> order_of(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return values[a] < values[b]; });
  return order;
}

// How much each matrix of `among` wants the codebook by one proxy: its place beyond the lowest
// `share`, or below it, negative.
void rank_beyond(std::span<const double> values, const std::vector<size_t>& among, double share,
                 double base, std::vector<double>& urgency) {
  std::vector<double> own;
  own.reserve(among.size());
  for (const size_t i : among) {
    own.push_back(values[i]);
  }
  const std::vector<size_t> order = order_of(own);
  const double threshold = share * static_cast<double>(among.size());
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const double beyond = static_cast<double>(rank) + 0.5 - threshold;
    urgency[among[order[rank]]] = beyond > 0 ? base + beyond : beyond;
  }
}

std::vector<double> proxy_urgency(std::span<const SelectorInput> matrices,
                                  const SelectorRule& rule) {
  std::vector<double> coarse;
  std::vector<double> fine;
  for (const SelectorInput& matrix : matrices) {
    const GapProxies& gaps =
        rule.selector == Selector::ProxyUnique ? matrix.proxies.unique : matrix.proxies.literal;
    coarse.push_back(rule.selector == Selector::Crest ? matrix.proxies.crest : gaps.coarse);
    fine.push_back(gaps.fine);
  }
  std::vector<size_t> all(matrices.size());
  std::iota(all.begin(), all.end(), size_t{0});
  std::vector<double> urgency(matrices.size());
  // Beyond the coarse threshold comes before beyond the fine one.
  rank_beyond(coarse, all, rule.coarse, static_cast<double>(matrices.size()), urgency);
  if (rule.selector != Selector::Crest) {
    std::erase_if(all, [&](size_t i) { return urgency[i] > 0; });
    rank_beyond(fine, all, rule.fine, 0, urgency);
  }
  return urgency;
}

// The loss that the codebook saves, for each byte that one of the two takes more.
std::vector<double> measured_urgency(std::span<const SelectorInput> matrices) {
  std::vector<double> urgency;
  for (const auto& [proxies, scalar, codebook] : matrices) {
    const double more =
        std::abs(static_cast<double>(codebook.bytes) - static_cast<double>(scalar.bytes));
    urgency.push_back((scalar.loss - codebook.loss) / std::max(1.0, more));
  }
  return urgency;
}

// Takes back the dearer quantizer from all that the budget does not reach.
Status keep_to_budget(std::span<const SelectorInput> matrices, const std::vector<double>& urgency,
                      uint64_t budget, std::vector<bool>& is_codebook) {
  uint64_t least = 0;
  std::vector<double> less_urgent;
  for (size_t i = 0; i < matrices.size(); ++i) {
    least += std::min(matrices[i].scalar.bytes, matrices[i].codebook.bytes);
    less_urgent.push_back(-std::abs(urgency[i]));
  }
  if (least > budget) {
    return usage_error(
        "quantize.budget: expected at least {} bytes, which {} matrices take in the cheaper of "
        "their quantizers, found {}; raise it or choose a codec of fewer bits",
        least, matrices.size(), budget);
  }
  uint64_t left = budget - least;
  for (const size_t i : order_of(less_urgent)) {
    const uint64_t scalar = matrices[i].scalar.bytes;
    const uint64_t codebook = matrices[i].codebook.bytes;
    const uint64_t more = (is_codebook[i] ? codebook : scalar) - std::min(scalar, codebook);
    if (more > left) {
      is_codebook[i] = !is_codebook[i];
    } else {
      left -= more;
    }
  }
  return {};
}

// Ranks from 0, equal values sharing their mean.
std::vector<double> ranks_of(std::span<const double> values) {
  const std::vector<size_t> order = order_of(values);
  std::vector<double> ranks(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) {
      ++end;
    }
    for (size_t i = begin; i < end; ++i) {
      ranks[order[i]] = static_cast<double>(begin + end - 1) / 2;
    }
    begin = end;
  }
  return ranks;
}

}  // namespace

Result<std::vector<bool>> choose_codebooks(std::span<const SelectorInput> matrices,
                                           const SelectorRule& rule) {
  const bool is_measured = rule.selector == Selector::OutputError || rule.selector == Selector::Kl;
  const std::vector<double> urgency =
      is_measured ? measured_urgency(matrices) : proxy_urgency(matrices, rule);
  std::vector<bool> is_codebook;
  for (const double each : urgency) {
    is_codebook.push_back(each > 0);
  }
  if (rule.budget > 0) {
    RWKV_TRY(keep_to_budget(matrices, urgency, rule.budget, is_codebook));
  }
  return is_codebook;
}

double rank_correlation(std::span<const double> a, std::span<const double> b) {
  const std::vector<double> x = ranks_of(a);
  const std::vector<double> y = ranks_of(b);
  const double mean = (static_cast<double>(x.size()) - 1) / 2;
  double products = 0;
  double x_squares = 0;
  double y_squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    products += (x[i] - mean) * (y[i] - mean);
    x_squares += (x[i] - mean) * (x[i] - mean);
    y_squares += (y[i] - mean) * (y[i] - mean);
  }
  return x_squares > 0 && y_squares > 0 ? products / std::sqrt(x_squares * y_squares) : 0;
}

}  // namespace rwkv::press

#include "compressor/evaluate/agreement.h"

#include <algorithm>
#include <cmath>

namespace rwkv::press {
namespace {

constexpr size_t kTop = 5;

size_t arg_max(std::span<const float> logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// ln sum exp(logits).
double log_sum(std::span<const float> logits, double largest) {
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - largest);
  }
  return largest + std::log(sum);
}

// Tokens that stand before `token` in the order of logits.
size_t rank_of(std::span<const float> logits, size_t token) {
  size_t before = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    before += logits[i] > logits[token] || (logits[i] == logits[token] && i < token) ? 1 : 0;
  }
  return before;
}

}  // namespace

Comparison compare_logits(std::span<const float> reference, std::span<const float> model) {
  const size_t best = arg_max(reference);
  const double reference_sum = log_sum(reference, static_cast<double>(reference[best]));
  const double model_sum = log_sum(model, static_cast<double>(model[arg_max(model)]));
  double kl = 0.0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - reference_sum;
    const double p = std::exp(log_p);
    // Tokens that the reference rules out add nothing, regardless of the model.
    if (p != 0.0) {
      kl += p * (log_p - (static_cast<double>(model[i]) - model_sum));
    }
  }
  const size_t rank = rank_of(model, best);
  return {kl, rank == 0, rank < kTop};
}

}  // namespace rwkv::press

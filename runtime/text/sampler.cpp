// The steps of sampler.h in their order. Nothing is sorted: top-k is one selection, top-p a
// selection by weight that halves its range at each step, both linear in the vocabulary.
#include "runtime/text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace rwkv::edge {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
// Logits are about +-30, so a larger penalty is a typing error.
constexpr float kMaxPenalty = 100.0f;

bool is_greedy(const SamplerOptions& options) {
  return options.temperature == 0.0f || options.top_k == 1;
}

bool has_penalties(const SamplerOptions& options) {
  return options.presence_penalty != 0.0f || options.frequency_penalty != 0.0f;
}

Status check_penalty(const char* name, float value) {
  if (!(std::fabs(value) <= kMaxPenalty)) {
    return usage_error("{}: expected a number from -{:g} to {:g}, found {:g}", name, kMaxPenalty,
                       kMaxPenalty, value);
  }
  return {};
}

/// The probability of a token with `logit`, relative to that of the token with the largest one,
/// `best`. float is exact enough (sums are double) and three times as fast.
float weight(float logit, float best) {
  return std::exp(logit - best);
}

/// Makes all logits comparable and finite or minus infinity; returns the first largest.
size_t clean_and_find_best(std::span<float> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) {
      logits[i] = kNothing;
    }
    logits[i] = std::min(logits[i], std::numeric_limits<float>::max());
    if (logits[i] > logits[best]) {
      best = i;
    }
  }
  return best;
}

}  // namespace

Status check(const SamplerOptions& options) {
  if (!(options.temperature >= 0.0f) || std::isinf(options.temperature)) {
    return usage_error("temperature: expected a number of 0 or more, found {:g}",
                       options.temperature);
  }
  if (options.top_k < 0) {
    return usage_error("top_k: expected 0 (off) or more, found {}", options.top_k);
  }
  if (!(options.top_p > 0.0f && options.top_p <= 1.0f)) {
    return usage_error("top_p: expected a number above 0 and at most 1 (off), found {:g}",
                       options.top_p);
  }
  RWKV_TRY(check_penalty("presence_penalty", options.presence_penalty));
  RWKV_TRY(check_penalty("frequency_penalty", options.frequency_penalty));
  if (!(options.penalty_decay >= 0.0f && options.penalty_decay <= 1.0f)) {
    return usage_error("penalty_decay: expected a number from 0 to 1, found {:g}",
                       options.penalty_decay);
  }
  return {};
}

Status check_logits(std::span<const float> logits) {
  constexpr float kMost = std::numeric_limits<float>::max();
  // NaN fails the comparison too. Counted, not searched, so that the loop is vectorised.
  size_t n_bad = 0;
  size_t n_nothing = 0;
  for (const float logit : logits) {
    n_bad += logit <= kMost ? 0 : 1;
    n_nothing += logit == kNothing ? 1 : 0;
  }
  if (n_bad == 0 && n_nothing < logits.size()) {
    return {};
  }
  const auto bad = std::find_if(logits.begin(), logits.end(),
                                [&](float logit) { return n_bad > 0 ? !(logit <= kMost) : true; });
  return bad_input(
      "the model's logits are not finite: expected numbers, found {} for token {} and {} more; its "
      "weights hold values that are none, or overflow: see inspect --verify, and convert a sound "
      "checkpoint",
      *bad, bad - logits.begin(), (n_bad > 0 ? n_bad : n_nothing) - 1);
}

Sampler::Sampler(size_t n_vocab, const SamplerOptions& options)
    : n_vocab_(n_vocab), options_(options), state_(options.seed) {
  if (has_penalties(options_)) {
    counts_.resize(n_vocab_);
    counted_.reserve(n_vocab_);
  }
  if (!is_greedy(options_) && (options_.top_k > 0 || options_.top_p < 1.0f)) {
    candidates_.resize(n_vocab_);
  }
}

int32_t Sampler::sample(std::span<float> logits) {
  logits = logits.first(std::min(logits.size(), n_vocab_));
  apply_penalties(logits);
  const size_t best = clean_and_find_best(logits);
  if (logits.empty() || is_greedy(options_) || logits[best] == kNothing) {
    return static_cast<int32_t>(best);
  }
  const float best_logit = logits[best];
  const Cut cut = find_cut(logits, best_logit);
  const double power = 1.0 / options_.temperature;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = logits[i];
    const bool kept =
        logit > cut.logit || (logit == cut.logit && static_cast<int32_t>(i) <= cut.id);
    logits[i] = kept ? std::exp(static_cast<float>((logit - best_logit) * power)) : 0.0f;
  }
  return draw(logits);
}

void Sampler::accept(int32_t token) {
  if (counts_.empty()) {
    return;
  }
  size_t n_counted = 0;
  for (const int32_t id : counted_) {
    float& count = counts_[static_cast<size_t>(id)];
    count *= options_.penalty_decay;
    if (count > 0.0f) {
      counted_[n_counted++] = id;
    }
  }
  counted_.resize(n_counted);
  if (token < 0 || static_cast<size_t>(token) >= n_vocab_) {
    return;
  }
  float& count = counts_[static_cast<size_t>(token)];
  if (count == 0.0f) {
    counted_.push_back(token);
  }
  count += 1.0f;
}

void Sampler::reset() {
  state_ = options_.seed;
  std::fill(counts_.begin(), counts_.end(), 0.0f);
  counted_.clear();
}

void Sampler::apply_penalties(std::span<float> logits) const {
  for (const int32_t id : counted_) {
    const auto i = static_cast<size_t>(id);
    if (i < logits.size()) {
      logits[i] -= options_.presence_penalty + counts_[i] * options_.frequency_penalty;
    }
  }
}

Sampler::Cut Sampler::find_cut(std::span<const float> logits, float best) {
  if (candidates_.empty()) {
    return {kNothing, std::numeric_limits<int32_t>::max()};
  }
  const auto logit_of = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  const auto ranks_before = [&](int32_t a, int32_t b) {
    return logit_of(a) > logit_of(b) || (logit_of(a) == logit_of(b) && a < b);
  };

  // Weights are probabilities times `total`.
  double total = 0.0;
  double needed = std::numeric_limits<double>::infinity();
  double lowest = kNothing;
  if (options_.top_p < 1.0f) {
    for (const float logit : logits) {
      total += weight(logit, best);
    }
    needed = options_.top_p * total;
    // All weights below (1 - top_p) * total / n together are less than the weight that top-p drops,
    // so top-p keeps none of them, and few candidates remain. The margin of 0.001 covers rounding.
    lowest = best + std::log((total - needed) / static_cast<double>(logits.size())) - 0.001;
  }
  size_t end = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= lowest) {
      candidates_[end++] = static_cast<int32_t>(i);
    }
  }

  const auto first = candidates_.begin();
  const auto at = [&](size_t i) { return first + static_cast<std::ptrdiff_t>(i); };
  const auto n_top = static_cast<size_t>(std::max(options_.top_k, 0));
  if (n_top > 0 && n_top < end) {
    std::nth_element(first, at(n_top - 1), at(end), ranks_before);
    end = n_top;
  }
  if (options_.top_p >= 1.0f) {
    const int32_t last = *std::max_element(first, at(end), ranks_before);
    return {logit_of(last), last};
  }
  // The cut has a rank in [begin, end); tokens that rank before `begin` are kept and weigh `kept`.
  size_t begin = 0;
  double kept = 0.0;
  while (end - begin > 1) {
    const size_t middle = begin + (end - begin) / 2;
    std::nth_element(at(begin), at(middle), at(end), ranks_before);
    const double heavier =
        std::accumulate(at(begin), at(middle), kept,
                        [&](double sum, int32_t id) { return sum + weight(logit_of(id), best); });
    if (heavier >= needed) {
      end = middle;
    } else {
      kept = heavier;
      begin = middle;
    }
  }
  return {logit_of(candidates_[begin]), candidates_[begin]};
}

int32_t Sampler::draw(std::span<float> weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double target = next_uniform() * total;
  double reached = 0.0;
  size_t chosen = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] > 0.0f) {
      reached += weights[i];
      chosen = i;  // stays the last one if target rounds up to total
      if (target < reached) {
        break;
      }
    }
  }
  return static_cast<int32_t>(chosen);
}

/// A double in [0, 1) with 53 random bits from SplitMix64 (Steele, Lea, Flood 2014; public domain
/// reference by S. Vigna): 64 bits of state, any seed is a good one.
double Sampler::next_uniform() {
  state_ += 0x9e3779b97f4a7c15u;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

}  // namespace rwkv::edge

#include "runtime/text/scoring.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/text/sampler.h"

namespace rwkv::edge {
namespace {

// Number of tokens whose logits are in memory at a time.
constexpr size_t kBatch = 32;

}  // namespace

double Score::nats_per_token() const {
  return nats / static_cast<double>(n_tokens);
}
double Score::perplexity() const {
  return std::exp(nats_per_token());
}
double Score::bits_per_byte() const {
  return nats / std::log(2.0) / static_cast<double>(n_bytes);
}
double Score::top1_accuracy() const {
  return static_cast<double>(n_top1) / static_cast<double>(n_tokens);
}
double Score::standard_error() const {
  const auto n = static_cast<double>(n_tokens);
  const double mean = nats / n;
  return n < 2 ? 0.0 : std::sqrt(std::max(0.0, squared_nats / n - mean * mean) / (n - 1));
}

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - largest);
  }
  return largest + std::log(sum) - static_cast<double>(logits[static_cast<size_t>(token)]);
}

Status predict_tokens(Evaluator& evaluator, std::span<const int32_t> tokens,
                      const VisitPredictions& visit) {
  if (tokens.size() < 2) {
    return bad_input("{} tokens to score; at least 2 are needed, the first has no context",
                     tokens.size());
  }
  const size_t n_vocab = evaluator.model().config().n_vocab;
  State state = evaluator.model().empty_state();
  std::vector<float> logits(std::min(kBatch, tokens.size()) * n_vocab);
  for (size_t begin = 0; begin + 1 < tokens.size(); begin += kBatch) {
    const size_t n = std::min(kBatch, tokens.size() - 1 - begin);
    const auto here = std::span(logits).first(n * n_vocab);
    RWKV_TRY(evaluator.forward(tokens.subspan(begin, n), state, Logits::All, here));
    const auto next = tokens.subspan(begin + 1, n);
    for (size_t t = 0; t < n; ++t) {
      if (next[t] < 0 || static_cast<uint64_t>(next[t]) >= n_vocab) {
        return bad_input("token {} has id {}, the vocabulary ends at {}", begin + t + 1, next[t],
                         n_vocab - 1);
      }
    }
    RWKV_TRY(visit(begin, next, here));
  }
  return {};
}

Result<Score> score_tokens(Evaluator& evaluator, std::span<const int32_t> tokens,
                           const std::function<uint64_t(int32_t)>& n_bytes,
                           const std::function<void(uint64_t)>& progress) {
  const size_t n_vocab = evaluator.model().config().n_vocab;
  Score score;
  const Status scored = predict_tokens(
      evaluator, tokens,
      [&](size_t first, std::span<const int32_t> next, std::span<const float> logits) -> Status {
        for (size_t t = 0; t < next.size(); ++t) {
          const auto row = logits.subspan(t * n_vocab, n_vocab);
          const double nats = negative_log_likelihood(row, next[t]);
          if (!std::isfinite(nats)) {
            RWKV_TRY(check_logits(row).in(fmt::format("before token {}", first + t + 1)));
            return bad_input("token {} has probability 0: its loss is not finite", first + t + 1);
          }
          const auto best = std::max_element(row.begin(), row.end()) - row.begin();
          score.nats += nats;
          score.squared_nats += nats * nats;
          score.n_top1 += best == next[t] ? 1 : 0;
          score.n_bytes += n_bytes(next[t]);
        }
        score.n_tokens += next.size();
        progress(first + next.size());
        return {};
      });
  RWKV_TRY(scored);
  return score;
}

}  // namespace rwkv::edge

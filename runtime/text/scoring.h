// How well a model predicts a text: perplexity, bits per byte, top-1 accuracy.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "runtime/model/evaluator.h"

namespace rwkv::edge {

struct Score {
  uint64_t n_tokens = 0;  ///< predicted tokens: all but the first
  uint64_t n_bytes = 0;   ///< bytes of these tokens
  uint64_t n_top1 = 0;    ///< positions where the most likely token was the right one
  double nats = 0.0;      ///< sum of -ln p(token)
  double squared_nats = 0.0;

  double nats_per_token() const;
  double perplexity() const;
  double bits_per_byte() const;
  double top1_accuracy() const;
  /// Standard error of nats_per_token, tokens taken as independent.
  double standard_error() const;
};

/// -ln softmax(logits)[token], computed in double.
double negative_log_likelihood(std::span<const float> logits, int32_t token);

/// Feeds `tokens` from the empty state, the state carried through, and calls `visit(first, next,
/// logits)` for a few tokens at a time. `next` is tokens[first + 1 ...], which the rows of `logits`
/// [next.size()][n_vocab] predict. Ends with the first error, its own or that of `visit`. BadInput
/// for fewer than two tokens, since the first has no context, and for ids outside the vocabulary.
using VisitPredictions = std::function<Status(size_t first, std::span<const int32_t> next,
                                              std::span<const float> logits)>;
Status predict_tokens(Evaluator& evaluator, std::span<const int32_t> tokens,
                      const VisitPredictions& visit);

/// Feeds `tokens` from the empty state, the state carried through, and scores every token but the
/// first, which has no context. BadInput if logits are not finite. `n_bytes(token)` is the length
/// of a token's text. `progress` is called with the number of tokens done.
Result<Score> score_tokens(Evaluator& evaluator, std::span<const int32_t> tokens,
                           const std::function<uint64_t(int32_t)>& n_bytes,
                           const std::function<void(uint64_t)>& progress);

}  // namespace rwkv::edge

// How likely texts are after a context. The context is read once, and every continuation starts
// from a copy of the state after it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/evaluate/questions.h"
#include "runtime/model/evaluator.h"

namespace rwkv::press {

struct Likelihood {
  double nats = 0.0;      ///< -ln p(continuation | context), a sum over its tokens
  bool is_greedy = true;  ///< every token is the arg-max of the logits before it
};

class ContinuationScorer {
 public:
  /// `prefix` are ids of the model's vocabulary.
  ContinuationScorer(const std::shared_ptr<const edge::Model>& model, std::vector<int32_t> prefix);

  /// Reads the prefix, then `context`, from the empty state. BadInput if it cannot be
  /// split into the model's tokens, or makes none.
  Status read(const std::string& context);
  /// The likelihood of `continuation` after the context, which is kept; the continuation is
  /// tokenized by itself. BadInput likewise, and if logits are not finite.
  Result<Likelihood> score(const std::string& continuation);

 private:
  Result<std::vector<int32_t>> split(const std::string& text) const;
  Status add(std::span<const float> logits, int32_t token, Likelihood& likelihood) const;

  edge::Evaluator evaluator_;
  std::vector<int32_t> prefix_;
  edge::State after_context_;
  edge::State state_;
  std::vector<float> context_logits_;  ///< [n_vocab], after the context
  std::vector<float> logits_;          ///< [tokens of a pass][n_vocab]
};

/// Calls f(i, scorer) for every document i of `n`, several at a time on as many threads with a
/// scorer each; f writes what it finds to a place of its own. The first error, by i, ends it.
/// `options.progress` is called with the number of documents done, from one thread at a time.
Status each_document(const std::shared_ptr<const edge::Model>& model,
                     const QuestionOptions& options, size_t n,
                     const std::function<Status(size_t i, ContinuationScorer& scorer)>& f);

}  // namespace rwkv::press

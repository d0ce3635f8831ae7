// Last-word accuracy: does the model say the word that ends a text, having read what stands before
// it? The task is LAMBADA (Paperno et al. 2016, arXiv 1606.06031). Text and score are as in task
// lambada_openai of lm-evaluation-harness:
//   context = the text before its last space; target = that space and the last word;
//   right if every token of the target is the arg-max of the logits before it;
//   log-likelihood = sum over the target's tokens of ln p(token);
//   perplexity = exp(-mean over documents of the log-likelihood), so per word, not per token.
// Two things differ. Context and target are split into tokens separately, as in BlinkDL's own
// LAMBADA script, where the harness splits them together and takes the tokens after the
// context's: the same unless a token spans the last space. And the standard error of accuracies
// divides by n, the harness by n - 1. The context begins at the empty state, without an end-of-text
// token unless one is given as a prefix, as BlinkDL's script does with id 0.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "compressor/evaluate/cloze_set.h"
#include "compressor/evaluate/confidence.h"
#include "compressor/evaluate/questions.h"
#include "formats/base/status.h"

namespace rwkv::edge {
class Model;
}

namespace rwkv::press {

struct ClozeResult {
  Tally all;
  /// By kind, sorted by its name. Documents without a kind are in `all` alone.
  std::map<std::string, Tally> kinds;
  double nats = 0.0;          ///< sum over documents of -ln p(target)
  double squared_nats = 0.0;  ///< sum of the squares

  /// Of -ln p(target) over documents.
  Estimate nats_per_word() const;
  /// exp() of it, standard error to first order; infinity where that is no double any more.
  Estimate perplexity() const;
  /// 95 %: exp() of the interval of nats_per_word().
  Interval perplexity_interval() const;
};

/// The model, which has a tokenizer, on all documents of `set`. BadInput, naming the line, if a
/// document cannot be split into the model's tokens or logits are not finite.
Result<ClozeResult> evaluate_cloze(const std::shared_ptr<const edge::Model>& model,
                                   const ClozeSet& set, const QuestionOptions& options);

}  // namespace rwkv::press

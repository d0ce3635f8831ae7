// Multiple choice: which of the answers is the most likely one after the question? With the
// log-likelihood ll of a continuation (a sum over its tokens), accuracies are those of
// lm-evaluation-harness (process_results for multiple_choice in lm_eval/api/task.py):
//   acc        right if the largest ll is that of the label
//   acc_norm   the largest ll / characters of the answer
//   acc_bytes  the largest ll / bytes of the answer in UTF-8
// where the answer is the continuation without the one space that it begins with, if it does; of
// equal scores the first counts. Two things differ, as for cloze.h: context and continuation are
// split into tokens separately, and standard errors divide by n.
#pragma once

#include <memory>

#include "compressor/evaluate/choices_set.h"
#include "compressor/evaluate/questions.h"
#include "formats/base/status.h"

namespace rwkv::edge {
class Model;
}

namespace rwkv::press {

struct ChoicesResult {
  Tally acc;
  Tally acc_norm;
  Tally acc_bytes;
};

/// The model, which has a tokenizer, on all documents of `set`. A context is read once for all the
/// choices in a row that share it. BadInput, naming the line, if a document cannot be split into
/// the model's tokens or logits are not finite.
Result<ChoicesResult> evaluate_choices(const std::shared_ptr<const edge::Model>& model,
                                       const ChoicesSet& set, const QuestionOptions& options);

}  // namespace rwkv::press

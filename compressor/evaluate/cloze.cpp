#include "compressor/evaluate/cloze.h"

#include <vector>

#include "compressor/evaluate/likelihood.h"

namespace rwkv::press {

Estimate ClozeResult::nats_per_word() const {
  return mean_estimate(nats, squared_nats, all.documents);
}
Estimate ClozeResult::perplexity() const {
  return exponential(nats_per_word());
}
Interval ClozeResult::perplexity_interval() const {
  return exponential(nats_per_word().interval());
}

Result<ClozeResult> evaluate_cloze(const std::shared_ptr<const edge::Model>& model,
                                   const ClozeSet& set, const QuestionOptions& options) {
  std::vector<Likelihood> answers(set.documents.size());
  const auto ask = [&](size_t i, ContinuationScorer& scorer) -> Status {
    const ClozeDocument& document = set.documents[i];
    const auto where = [&] { return fmt::format("{}: line {}", set.path, document.line); };
    RWKV_TRY(scorer.read(document.context).in(where()));
    const auto answer = scorer.score(document.target);
    RWKV_TRY(answer.status().in(where()));
    answers[i] = answer.value();
    return {};
  };
  RWKV_TRY(each_document(model, options, answers.size(), ask));
  ClozeResult result;
  for (size_t i = 0; i < answers.size(); ++i) {
    const Likelihood& answer = answers[i];
    result.all.add(answer.is_greedy);
    result.nats += answer.nats;
    result.squared_nats += answer.nats * answer.nats;
    if (!set.documents[i].kind.empty()) {
      result.kinds[set.documents[i].kind].add(answer.is_greedy);
    }
  }
  return result;
}

}  // namespace rwkv::press

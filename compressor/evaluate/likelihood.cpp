#include "compressor/evaluate/likelihood.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>

#include "formats/tokenizer/escape.h"
#include "runtime/text/scoring.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::press {
namespace {

constexpr size_t kMaxChunk = 32;  // tokens per pass

}  // namespace

ContinuationScorer::ContinuationScorer(const std::shared_ptr<const edge::Model>& model,
                                       std::vector<int32_t> prefix)
    : evaluator_(model, {1, kMaxChunk}),
      prefix_(std::move(prefix)),
      after_context_(model->empty_state()),
      state_(model->empty_state()),
      context_logits_(model->config().n_vocab) {}

// Ids lie within the vocabulary: the runtime opens no file whose tokenizer has others.
Result<std::vector<int32_t>> ContinuationScorer::split(const std::string& text) const {
  std::vector<int32_t> tokens;
  RWKV_TRY(evaluator_.model().tokenizer()->encode(text, tokens));
  if (tokens.empty()) {
    return bad_input("the model's vocabulary makes no token of '{}'",
                     escape_token(text.substr(0, 40)));
  }
  return tokens;
}

Status ContinuationScorer::add(std::span<const float> logits, int32_t token,
                               Likelihood& likelihood) const {
  const double nats = edge::negative_log_likelihood(logits, token);
  if (!std::isfinite(nats)) {
    return bad_input("the model's logits are not finite numbers");
  }
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  likelihood.is_greedy = likelihood.is_greedy && best == token;
  likelihood.nats += nats;
  return {};
}

Status ContinuationScorer::read(const std::string& context) {
  RWKV_ASSIGN(std::vector<int32_t> tokens, split(context));
  tokens.insert(tokens.begin(), prefix_.begin(), prefix_.end());
  after_context_.reset();
  return evaluator_.forward(tokens, after_context_, edge::Logits::Last, context_logits_);
}

Result<Likelihood> ContinuationScorer::score(const std::string& continuation) {
  RWKV_ASSIGN(const std::vector<int32_t> tokens, split(continuation));
  Likelihood likelihood;
  RWKV_TRY(add(context_logits_, tokens.front(), likelihood));
  std::copy(after_context_.values().begin(), after_context_.values().end(),
            state_.values().begin());
  const size_t n_vocab = context_logits_.size();
  for (size_t begin = 0; begin + 1 < tokens.size(); begin += kMaxChunk) {
    const size_t n = std::min(kMaxChunk, tokens.size() - 1 - begin);
    logits_.resize(std::max(logits_.size(), n * n_vocab));
    const auto here = std::span(logits_).first(n * n_vocab);
    RWKV_TRY(
        evaluator_.forward(std::span(tokens).subspan(begin, n), state_, edge::Logits::All, here));
    for (size_t t = 0; t < n; ++t) {
      RWKV_TRY(add(here.subspan(t * n_vocab, n_vocab), tokens[begin + t + 1], likelihood));
    }
  }
  return likelihood;
}

Status each_document(const std::shared_ptr<const edge::Model>& model,
                     const QuestionOptions& options, size_t n,
                     const std::function<Status(size_t i, ContinuationScorer& scorer)>& f) {
  edge::ThreadPool pool(static_cast<unsigned>(std::clamp<size_t>(n, 1, options.n_threads)));
  std::vector<std::unique_ptr<ContinuationScorer>> scorers;
  for (unsigned thread = 0; thread < pool.size(); ++thread) {
    scorers.push_back(std::make_unique<ContinuationScorer>(model, options.prefix));
  }
  std::mutex mutex;
  uint64_t n_done = 0;
  Status first_error;
  // Documents after the first error are skipped, those before it are not, so that the error does
  // not depend on which thread was faster.
  std::atomic<size_t> first_bad{n};
  pool.run(n, 1, [&](size_t begin, size_t end, unsigned thread) {
    for (size_t i = begin; i < end && i < first_bad; ++i) {
      Status status = f(i, *scorers[thread]);
      const std::lock_guard lock(mutex);
      if (!status.ok() && i < first_bad) {
        first_bad = i;
        first_error = std::move(status);
      }
      options.progress(++n_done);
    }
  });
  return first_error;
}

}  // namespace rwkv::press

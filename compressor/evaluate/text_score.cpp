#include "compressor/evaluate/text_score.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compressor/evaluate/block_ratio.h"
#include "compressor/evaluate/reference.h"
#include "runtime/text/scoring.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::press {
namespace {

constexpr size_t kMaxChunk = 32;  // tokens per pass

// What one position says.
struct Position {
  double nats = 0.0;
  bool is_right = false;
  Comparison comparison;
};

// The pass over one text.
class TextPass {
 public:
  TextPass(const std::shared_ptr<const edge::Model>& model,
           const std::shared_ptr<const edge::Model>& reference, std::span<const int32_t> tokens,
           const TextOptions& options)
      : model_(*model),
        tokens_(tokens),
        options_(options),
        evaluator_(model, {options.n_threads, kMaxChunk}),
        pool_(options.n_threads),
        nats_(tokens.size() - 1),
        bits_(tokens.size() - 1),
        right_(tokens.size() - 1),
        kl_(tokens.size() - 1),
        top1_(tokens.size() - 1),
        top5_(tokens.size() - 1) {
    if (reference) {
      reference_.emplace(reference, edge::EvaluatorOptions{options.n_threads, kMaxChunk});
    }
  }

  Result<TextScore> run() {
    const Status status = edge::predict_tokens(
        evaluator_, tokens_,
        [&](size_t first, std::span<const int32_t> next, std::span<const float> logits) {
          return visit(first, next, logits);
        });
    RWKV_TRY(status);
    score_.tokens = tokens_.size() - 1;
    score_.block_length = nats_.block_length();
    score_.nats_per_token = nats_.estimate();
    score_.bits_per_byte = bits_.estimate();
    score_.top1_accuracy = right_.estimate();
    if (reference_) {
      score_.agreement = {kl_.estimate(), top1_.estimate(), top5_.estimate()};
    }
    return score_;
  }

 private:
  Status visit(size_t first, std::span<const int32_t> next, std::span<const float> logits) {
    const size_t n_vocab = model_.config().n_vocab;
    std::span<const float> expected;
    if (reference_) {
      RWKV_ASSIGN(expected, reference_->logits(tokens_.subspan(first, next.size())));
    }
    positions_.resize(next.size());
    // Exponentials of a large vocabulary take as long as a small model.
    pool_.run(next.size(), 1, [&](size_t begin, size_t end, unsigned) {
      for (size_t t = begin; t < end; ++t) {
        const auto row = logits.subspan(t * n_vocab, n_vocab);
        Position& position = positions_[t];
        position.nats = edge::negative_log_likelihood(row, next[t]);
        position.is_right = std::max_element(row.begin(), row.end()) - row.begin() == next[t];
        if (reference_) {
          position.comparison = compare_logits(expected.subspan(t * n_vocab, n_vocab), row);
        }
      }
    });
    for (size_t t = 0; t < next.size(); ++t) {
      RWKV_TRY(add(positions_[t], next[t], first + t + 1));
    }
    options_.progress(static_cast<double>(first + next.size()) /
                      static_cast<double>(tokens_.size() - 1));
    return {};
  }

  Status add(const Position& position, int32_t token, size_t index) {
    if (!std::isfinite(position.nats)) {
      return bad_input("the model's logits before token {} are not finite numbers", index);
    }
    if (!std::isfinite(position.comparison.kl)) {
      return bad_input("the model's distance from the reference before token {} is not finite",
                       index);
    }
    const auto bytes = static_cast<uint64_t>(model_.tokenizer()->token_bytes(token).size());
    score_.bytes += bytes;
    nats_.add(position.nats);
    bits_.add(position.nats / std::log(2.0), static_cast<double>(bytes));
    right_.add(position.is_right ? 1.0 : 0.0);
    kl_.add(position.comparison.kl);
    top1_.add(position.comparison.is_top1 ? 1.0 : 0.0);
    top5_.add(position.comparison.is_in_top5 ? 1.0 : 0.0);
    return {};
  }

  const edge::Model& model_;
  std::span<const int32_t> tokens_;
  const TextOptions& options_;
  edge::Evaluator evaluator_;
  std::optional<Reference> reference_;
  edge::ThreadPool pool_;
  std::vector<Position> positions_;
  BlockRatio nats_, bits_, right_, kl_, top1_, top5_;
  TextScore score_;
};

}  // namespace

Estimate TextScore::perplexity() const {
  return exponential(nats_per_token);
}

Interval TextScore::perplexity_interval() const {
  return exponential(nats_per_token.interval());
}

Status check_same_vocabulary(const edge::Model& model, const edge::Model& reference) {
  const uint64_t n_vocab = model.config().n_vocab;
  if (n_vocab != reference.config().n_vocab) {
    return bad_input("has a vocabulary of {}, the reference one of {}; they cannot be compared",
                     n_vocab, reference.config().n_vocab);
  }
  const Tokenizer& ours = *model.tokenizer();
  const Tokenizer& theirs = *reference.tokenizer();
  if (ours.kind() != theirs.kind()) {
    return bad_input("has a vocabulary of kind {}, the reference one of kind {}",
                     tokenizer_kind_name(ours.kind()), tokenizer_kind_name(theirs.kind()));
  }
  for (uint64_t id = 0; id < n_vocab; ++id) {
    const auto token = static_cast<int32_t>(id);
    if (ours.token_bytes(token) != theirs.token_bytes(token)) {
      return bad_input("has another vocabulary than the reference: token {} differs", id);
    }
  }
  return {};
}

Result<TextScore> score_text(const std::shared_ptr<const edge::Model>& model,
                             const std::shared_ptr<const edge::Model>& reference,
                             const TextSet& set, const TextOptions& options) {
  std::vector<int32_t> tokens;
  RWKV_TRY(model->tokenizer()->encode(set.text, tokens).in(set.path));
  if (options.max_tokens > 0) {
    tokens.resize(std::min<uint64_t>(tokens.size(), options.max_tokens));
  }
  tokens.insert(tokens.begin(), options.prefix.begin(), options.prefix.end());
  if (tokens.size() < 2) {
    return bad_input("{}: {} tokens to score; at least 2 are needed, the first has no context",
                     set.path, tokens.size());
  }
  auto score = TextPass(model, reference, tokens, options).run();
  RWKV_TRY(score.status().in(set.path));
  return score;
}

}  // namespace rwkv::press

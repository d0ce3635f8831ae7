// How well a model predicts a text, and how near it is to a reference there: both from one forward
// pass over the text, the state carried from the empty one through all of it, as
// runtime/text/scoring.h and `rwkv-edge perplexity` do.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressor/evaluate/agreement.h"
#include "compressor/evaluate/confidence.h"
#include "formats/base/status.h"

namespace rwkv::edge {
class Model;
}

namespace rwkv::press {

struct TextSet {
  std::string path;
  std::string text;
};

/// Standard errors by blocks of `block_length` tokens (block_ratio.h).
struct TextScore {
  uint64_t tokens = 0;  ///< predicted tokens: all but the first
  uint64_t bytes = 0;   ///< their bytes
  uint64_t block_length = 0;
  Estimate nats_per_token;
  Estimate bits_per_byte;
  Estimate top1_accuracy;
  /// With a reference.
  std::optional<Agreement> agreement;

  /// exp(nats per token); its standard error to first order. Infinity where that is no double.
  Estimate perplexity() const;
  /// exp() of the interval of nats per token.
  Interval perplexity_interval() const;
};

struct TextOptions {
  unsigned n_threads = 1;   ///< changes no result
  uint64_t max_tokens = 0;  ///< only this many tokens from the start of the text; 0: all
  /// Called with the share of the text that is done.
  std::function<void(double)> progress = [](double) {};
  /// Tokens in front of the text, which are not scored, of the model's vocabulary. With them, the
  /// first token of the text has a context and is scored.
  std::vector<int32_t> prefix = {};
};

/// BadInput if the models' vocabularies are not of one size and the same in every id.
Status check_same_vocabulary(const edge::Model& model, const edge::Model& reference);

/// Both models have a tokenizer, and the same one; `reference` may be nullptr. BadInput if the text
/// cannot be split or has fewer than two tokens, or if logits are not finite.
Result<TextScore> score_text(const std::shared_ptr<const edge::Model>& model,
                             const std::shared_ptr<const edge::Model>& reference,
                             const TextSet& set, const TextOptions& options);

}  // namespace rwkv::press

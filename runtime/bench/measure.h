// The measurements of a bench for one model, and the statistics over several runs.
#pragma once

#include <memory>
#include <vector>

#include "runtime/model/evaluator.h"

namespace rwkv::edge {

struct Spread {
  double median = 0, min = 0, max = 0;
};
/// Of at least one value.
Spread spread_of(std::vector<double> values);

/// What to measure: tokens to decode, tokens of the prompt, runs.
struct BenchOptions {
  int64_t n_decode;
  int64_t n_prompt;
  int64_t n_runs;
};

/// The result of decoding, over any number of calls.
struct Decoding {
  std::vector<double> rates;  ///< tokens per second of each token except warm-up ones
  uint64_t touched = 0;       ///< bytes of weights, all tokens counted
  size_t n_tokens = 0;
};
/// Decodes `tokens` one by one; the first few warm up, but not the last. The only way in which
/// decoding is timed. No other evaluator of the model may run at the same time.
Status decode_each(Evaluator& evaluator, State& state, std::span<const int32_t> tokens,
                   Decoding& decoding);

/// One model with a number of threads. Tokens are pseudo-random and the same for every subject, so
/// that runs are comparable.
class BenchSubject {
 public:
  BenchSubject(std::shared_ptr<const Model> model, unsigned n_threads);

  /// Decodes `n` tokens after a few to warm up.
  Status decode(size_t n);
  /// Tokens per second of each token decoded since the last call.
  std::vector<double> take_rates();
  /// Runs a prompt of `n` tokens; adds tokens per second to `rates`.
  Status prefill(size_t n, std::vector<double>& rates);
  /// Bytes of weights and state that a decoded token touched on average.
  uint64_t bytes_per_token() const;
  /// All tokens evaluated.
  size_t n_evaluated() const { return n_evaluated_; }

 private:
  std::vector<int32_t> next_tokens(size_t n);

  Evaluator evaluator_;
  State state_;
  std::vector<float> logits_;
  uint64_t random_ = 1;
  Decoding decoding_;
  size_t n_evaluated_ = 0;
};

}  // namespace rwkv::edge

// What a bench measures of one model, and how figures of several runs are put together.
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

/// What is measured: tokens to decode, tokens of the prompt, runs.
struct BenchOptions {
  int64_t n_decode;
  int64_t n_prompt;
  int64_t n_runs;
};

/// One model with a number of threads. Tokens are pseudo-random, and the same for every subject, so
/// that runs compare.
class BenchSubject {
 public:
  BenchSubject(std::shared_ptr<const Model> model, unsigned n_threads);

  /// Decodes `n` tokens after a few to warm up; adds tokens per second of each to `rates`.
  Status decode(size_t n, std::vector<double>& rates);
  /// Runs a prompt of `n` tokens; adds tokens per second to `rates`.
  Status prefill(size_t n, std::vector<double>& rates);
  /// Bytes of weights and state that a decoded token touched on average.
  uint64_t bytes_per_token() const;
  /// Tokens that went through, of all kinds.
  size_t n_evaluated() const { return n_evaluated_; }

 private:
  std::vector<int32_t> next_tokens(size_t n);
  Status feed(std::span<const int32_t> tokens);

  Evaluator evaluator_;
  State state_;
  std::vector<float> logits_;
  uint64_t random_ = 1;
  uint64_t decode_touched_ = 0;
  size_t n_decoded_ = 0;
  size_t n_evaluated_ = 0;
};

}  // namespace rwkv::edge

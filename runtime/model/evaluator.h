// Runs a model over tokens. Holds the threads and all scratch memory, so that evaluating allocates
// nothing. One evaluator serves one caller at a time, any number of states.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/model/model.h"
#include "runtime/model/pass.h"

namespace rwkv::edge {

struct EvaluatorOptions {
  unsigned n_threads = 1;
  size_t max_chunk = 32;  ///< tokens per pass in sequence mode; scratch memory grows with it
};

/// For which tokens logits are computed.
enum class Logits { None, Last, All };

class Evaluator {
 public:
  Evaluator(std::shared_ptr<const Model> model, const EvaluatorOptions& options);

  const Model& model() const { return *model_; }

  /// Feeds `tokens` (any number) and updates `state`. `logits` receives [n_vocab] floats for the
  /// last token or [tokens][n_vocab] for all, according to `which`; its size must match.
  /// An id outside the vocabulary is BadInput and nothing is evaluated. If storage fails on
  /// the way, so does this, and `state` is no longer usable.
  Status forward(std::span<const int32_t> tokens, State& state, Logits which,
                 std::span<float> logits);

 private:
  Status chunks(std::span<const int32_t> tokens, State& state, Logits which, float* logits);
  Status chunk(std::span<const int32_t> tokens, State& state, Logits which, float* logits);
  Status embed(std::span<const int32_t> tokens);
  Status head(float* logits);
  void norm(const Model::Norm& norm, const float* x, float* y);
  void add_out();

  std::shared_ptr<const Model> model_;
  size_t max_chunk_;
  Pass pass_;
};

}  // namespace rwkv::edge

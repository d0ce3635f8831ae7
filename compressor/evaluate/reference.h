// A reference model that reads along with the model that is measured, some tokens behind, so that
// both have logits of the same positions at the same time.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/model/evaluator.h"

namespace rwkv::press {

class Reference {
 public:
  Reference(const std::shared_ptr<const edge::Model>& model, const edge::EvaluatorOptions& options)
      : evaluator_(model, options), state_(model->empty_state()) {}

  /// A new text begins.
  void start() { state_.reset(); }
  /// Reads on; the logits after each of `tokens`, [tokens][n_vocab], valid until the next call.
  Result<std::span<const float>> logits(std::span<const int32_t> tokens);

 private:
  edge::Evaluator evaluator_;
  edge::State state_;
  std::vector<float> logits_;
};

}  // namespace rwkv::press

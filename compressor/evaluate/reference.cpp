#include "compressor/evaluate/reference.h"

namespace rwkv::press {

Result<std::span<const float>> Reference::logits(std::span<const int32_t> tokens) {
  logits_.resize(tokens.size() * evaluator_.model().config().n_vocab);
  RWKV_TRY(evaluator_.forward(tokens, state_, edge::Logits::All, logits_));
  return std::span<const float>(logits_);
}

}  // namespace rwkv::press

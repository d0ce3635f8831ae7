#include "runtime/model/evaluator.h"

#include <algorithm>

#include "runtime/model/elementwise.h"

namespace rwkv::edge {

Evaluator::Evaluator(std::shared_ptr<const Model> model, const EvaluatorOptions& options)
    : model_(std::move(model)),
      run_(model_->config(), std::max(1u, options.n_threads),
           std::max<size_t>(1, options.max_chunk), model_->max_rank()),
      max_chunk_(std::max<size_t>(1, options.max_chunk)),
      x_(max_chunk_ * model_->config().n_embd),
      normed_(x_.size()),
      out_(x_.size()) {}

Status Evaluator::forward(std::span<const int32_t> tokens, State& state, Logits wanted,
                          std::span<float> logits) {
  const size_t n_vocab = model_->config().n_vocab;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<uint64_t>(tokens[i]) >= n_vocab) {
      return bad_input("token {} of the input has id {}, the vocabulary ends at {}", i, tokens[i],
                       n_vocab - 1);
    }
  }
  const size_t n_wanted = wanted == Logits::None   ? 0
                          : wanted == Logits::Last ? std::min<size_t>(1, tokens.size())
                                                   : tokens.size();
  if (logits.size() != n_wanted * n_vocab) {
    return usage_error("a buffer of {} logits is wanted, {} given", n_wanted * n_vocab,
                       logits.size());
  }
  for (size_t done = 0; done < tokens.size();) {
    const size_t n = std::min(max_chunk_, tokens.size() - done);
    const bool is_last = done + n == tokens.size();
    const Logits here = wanted == Logits::Last && !is_last ? Logits::None : wanted;
    float* to = wanted == Logits::All ? logits.data() + done * n_vocab : logits.data();
    chunk(tokens.subspan(done, n), state, here, to);
    done += n;
  }
  return {};
}

void Evaluator::embed(std::span<const int32_t> tokens) {
  const MatrixView& table = model_->embedding_;
  const CodecTraits& codec = codec_traits(table.codec);
  const size_t n = table.cols;
  const std::span<const std::byte> bytes(table.data, codec.encoded_bytes(table.rows, n));
  for (size_t t = 0; t < tokens.size(); ++t) {
    codec.decode_rows(bytes, table.rows, n, static_cast<uint64_t>(tokens[t]), 1,
                      std::span(x_).subspan(t * n, n));
  }
  if (!model_->config().ln0_folded) {
    layer_norm(x_.data(), model_->ln0_.weight.data(), model_->ln0_.bias.data(), x_.data(),
               tokens.size(), n);
  }
}

void Evaluator::chunk(std::span<const int32_t> tokens, State& state, Logits wanted, float* logits) {
  const size_t n = model_->config().n_embd;
  const size_t n_tokens = tokens.size();
  run_.n_tokens = n_tokens;
  embed(tokens);
  for (size_t i = 0; i < model_->blocks_.size(); ++i) {
    const Model::Block& block = model_->blocks_[i];
    run_.state = state.layer(i);
    layer_norm(x_.data(), block.ln1.weight.data(), block.ln1.bias.data(), normed_.data(), n_tokens,
               n);
    block.time_mix->forward(run_, normed_.data(), out_.data());
    add(x_.data(), out_.data(), n_tokens * n);
    layer_norm(x_.data(), block.ln2.weight.data(), block.ln2.bias.data(), normed_.data(), n_tokens,
               n);
    block.channel_mix->forward(run_, normed_.data(), out_.data());
    add(x_.data(), out_.data(), n_tokens * n);
  }
  if (wanted == Logits::None) {
    return;
  }
  // Only the tokens whose logits are wanted go through the head.
  const size_t first = wanted == Logits::Last ? n_tokens - 1 : 0;
  run_.n_tokens = n_tokens - first;
  layer_norm(x_.data() + first * n, model_->ln_out_.weight.data(), model_->ln_out_.bias.data(),
             normed_.data(), run_.n_tokens, n);
  matmul(run_, model_->head_, normed_.data(), logits);
}

}  // namespace rwkv::edge

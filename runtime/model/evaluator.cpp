#include "runtime/model/evaluator.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace rwkv::edge {
namespace {

constexpr float kLayerNormEps = 1e-5f;

}  // namespace

// The memory limit may allow fewer tokens per pass than requested.
Evaluator::Evaluator(std::shared_ptr<const Model> model, const EvaluatorOptions& options)
    : model_(std::move(model)),
      max_chunk_(std::clamp<size_t>(options.max_chunk, 1, model_->weights().residency().max_chunk)),
      // Opening the model has checked that there are kernels.
      pass_(model_->config(), *kernels().value(),
            {std::max(1u, options.n_threads), max_chunk_, model_->needs()}) {}

Status Evaluator::forward(std::span<const int32_t> tokens, State& state, Logits which,
                          std::span<float> logits) {
  const size_t n_vocab = model_->config().n_vocab;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<uint64_t>(tokens[i]) >= n_vocab) {
      return bad_input("token {} of the input has id {}, the vocabulary ends at {}", i, tokens[i],
                       n_vocab - 1);
    }
  }
  const size_t n_rows = which == Logits::None   ? 0
                        : which == Logits::Last ? std::min<size_t>(1, tokens.size())
                                                : tokens.size();
  if (logits.size() != n_rows * n_vocab) {
    return usage_error("expected a buffer of {} logits, found {}", n_rows * n_vocab, logits.size());
  }
  const auto lock = model_->weights().lock();
  const Status status = chunks(tokens, state, which, logits.data());
  model_->weights().count(std::exchange(pass_.traffic, {}));
  return status;
}

Status Evaluator::chunks(std::span<const int32_t> tokens, State& state, Logits which,
                         float* logits) {
  const size_t n_vocab = model_->config().n_vocab;
  for (size_t done = 0; done < tokens.size();) {
    const size_t n = std::min(max_chunk_, tokens.size() - done);
    const bool is_last = done + n == tokens.size();
    const Logits here = which == Logits::Last && !is_last ? Logits::None : which;
    float* to = which == Logits::All ? logits + done * n_vocab : logits;
    RWKV_TRY(chunk(tokens.subspan(done, n), state, here, to));
    done += n;
  }
  return {};
}

Status Evaluator::embed(std::span<const int32_t> tokens) {
  RowStore& table = *model_->embedding_;
  const CodecTraits& codec = codec_traits(table.codec());
  const size_t n = table.cols();
  pass_.traffic.touch(table.component(), tokens.size() * table.row_bytes());
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto id = static_cast<uint32_t>(tokens[t]);
    const std::byte* row = nullptr;
    RWKV_TRY(table.gather(pass_.pool, pass_.traffic, {&id, 1}, &row).status());
    const MatrixView view = {table.shared(), row, table.codec(), 1, n};
    codec.decode_rows(view, 0, 1, {pass_.x() + t * n, n});
  }
  if (!model_->config().ln0_folded) {
    norm(model_->ln0_, pass_.x(), pass_.x());
  }
  if (model_->config().deep_embed > 0) {
    std::copy_n(pass_.x(), tokens.size() * n, pass_.embedded());
  }
  return {};
}

// y = norm(x) for each token of the chunk; y may be x.
void Evaluator::norm(const Model::Norm& norm, const float* x, float* y) {
  const size_t n = model_->config().n_embd;
  pass_.each_token([&](size_t t) {
    pass_.table.elementwise->normalise(x + t * n, norm.weight.data(), norm.bias.data(), y + t * n,
                                       n, kLayerNormEps);
  });
}

// Adds the result of half a block to the residual stream.
void Evaluator::add_out() {
  const size_t n = model_->config().n_embd;
  pass_.each_token(
      [&](size_t t) { pass_.table.elementwise->add(pass_.x() + t * n, pass_.out() + t * n, n); });
}

Status Evaluator::chunk(std::span<const int32_t> tokens, State& state, Logits which,
                        float* logits) {
  const size_t n = model_->config().n_embd;
  const size_t n_tokens = tokens.size();
  pass_.n_tokens = n_tokens;
  pass_.tokens = tokens;
  pass_.release();
  pass_.traffic.touch(model_->weights().whole().blocks);
  pass_.stream = model_->weights().stream();
  if (pass_.stream) {
    pass_.stream->begin(which != Logits::None, pass_.traffic);
  }
  RWKV_TRY(embed(tokens));
  for (size_t i = 0; i < model_->blocks_.size(); ++i) {
    const Model::Block& block = model_->blocks_[i];
    RWKV_TRY(model_->weights().enter_block(i, pass_.pool, pass_.traffic));
    pass_.state = state.layer(i);
    norm(block.ln1, pass_.x(), pass_.normed());
    RWKV_TRY(block.time_mix->forward(pass_, pass_.normed(), pass_.out()));
    add_out();
    norm(block.ln2, pass_.x(), pass_.normed());
    RWKV_TRY(block.channel_mix->forward(pass_, pass_.normed(), pass_.out()));
    add_out();
  }
  if (which == Logits::None) {
    return {};
  }
  pass_.traffic.touch(model_->weights().whole().head);
  // Only the tokens whose logits are needed go through the head.
  const size_t first = which == Logits::Last ? n_tokens - 1 : 0;
  pass_.n_tokens = n_tokens - first;
  norm(model_->ln_out_, pass_.x() + first * n, pass_.normed());
  return head(logits);
}

// The head of normed() for pass_.n_tokens.
Status Evaluator::head(float* logits) {
  if (model_->cluster_head_) {
    return model_->cluster_head_->forward(pass_, pass_.normed(), logits);
  }
  const Matrix& head = model_->head_;
  if (!model_->head_rows_) {
    return matmul(pass_, head, pass_.normed(), logits);
  }
  // Layerwise: rows pass through a few at a time.
  for (uint32_t row = 0; row < head.rows;) {
    const std::span<uint32_t> ids =
        pass_.ids().first(std::min<uint64_t>(head.rows - row, kMaxGather));
    std::iota(ids.begin(), ids.end(), row);
    RWKV_TRY(matmul_rows(pass_, *model_->head_rows_, ids, ids, RowOrder::Contiguous, pass_.normed(),
                         logits, head.rows));
    row += static_cast<uint32_t>(ids.size());
  }
  return {};
}

}  // namespace rwkv::edge

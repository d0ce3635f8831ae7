#include "runtime/model/deep_embed.h"

#include <algorithm>
#include <array>

namespace rwkv::edge {

Status DeepEmbed::load(const Weights& weights, const std::string& prefix) {
  const std::string stem = prefix + "ffn.";
  side_ = weights.config().deep_embed;
  RWKV_ASSIGN(rows_, weights.rows(stem + "s_emb.weight"));
  RWKV_ASSIGN(bias_, weights.vector(stem + "s0"));
  RWKV_ASSIGN(from_embedding_, Projection::load(weights, stem + "s_emb_x"));
  RWKV_ASSIGN(const Matrix in, weights.matrix(stem + "s1"));
  RWKV_ASSIGN(const Matrix out, weights.matrix(stem + "s2"));
  in_ = Projection::of(in);
  out_ = Projection::of(out);
  return {};
}

DeepEmbed::Buffers DeepEmbed::take_buffers(Arena& arena, size_t n_tokens, size_t side) {
  float* const s = arena.take(n_tokens * side * side);
  float* const row = arena.take(side * side);
  float* const inner = arena.take(n_tokens * side);
  return {s, row, inner, arena.take(n_tokens * side)};
}

size_t DeepEmbed::floats(const ModelConfig& config) {
  Arena counter;
  take_buffers(counter, 1, config.deep_embed);
  return counter.most();
}

// Adds each token's row of s_emb to what its embedding gave.
Status DeepEmbed::add_rows(Pass& pass, const Buffers& buffers) const {
  const size_t n = side_ * side_;
  const CodecTraits& codec = codec_traits(rows_->codec());
  pass.traffic.touch(rows_->component(), pass.n_tokens * rows_->row_bytes());
  for (size_t t = 0; t < pass.n_tokens; ++t) {
    const auto id = static_cast<uint32_t>(pass.tokens[t]);
    const std::byte* bytes = nullptr;
    RWKV_TRY(rows_->gather(pass.pool, pass.traffic, {&id, 1}, &bytes).status());
    const MatrixView view = {rows_->shared(), bytes, rows_->codec(), 1, n};
    codec.decode_rows(view, 0, 1, {buffers.row, n});
    pass.table.elementwise->add(buffers.s + t * n, buffers.row, n);
  }
  rows_->release();
  return {};
}

// mixed = inner S for each token: a row vector times its matrix. In this order, which does not
// depend on the kernel set.
void DeepEmbed::mix(Pass& pass, const Buffers& buffers) const {
  const size_t n = side_;
  pass.each_token([&](size_t t) {
    const float* const s = buffers.s + t * n * n;
    float* const mixed = buffers.mixed + t * n;
    std::fill(mixed, mixed + n, 0.0f);
    for (size_t i = 0; i < n; ++i) {
      const float a = buffers.inner[t * n + i];
      for (size_t j = 0; j < n; ++j) {
        mixed[j] += a * s[i * n + j];
      }
    }
  });
}

Status DeepEmbed::forward(Pass& pass, const float* x, float* gate) const {
  const size_t before = pass.arena.used();
  const Buffers buffers = take_buffers(pass.arena, pass.n_tokens, side_);
  RWKV_TRY(pass.arena.status());
  const std::array<Projection::Application, 2> first = {
      {{&from_embedding_, pass.embedded(), buffers.s}, {&in_, x, buffers.inner}}};
  RWKV_TRY(Projection::apply_all(pass, first));
  RWKV_TRY(add_rows(pass, buffers));
  mix(pass, buffers);
  RWKV_TRY(out_.apply(pass, buffers.mixed, gate));
  pass.each_token([&](size_t t) {
    pass.table.elementwise->add(gate + t * bias_.size(), bias_.data(), bias_.size());
  });
  pass.arena.rewind(before);
  return {};
}

}  // namespace rwkv::edge

// DeepEmbed of v7a: each token has a small square matrix S in every block, which decides together
// with the input of channel_mix how much each neuron counts:
//   gate = ((x s1) S) s2 + s0,  S = s_emb[token] + s_emb_x e,  e = the embedded token after ln0.
#pragma once

#include <string>

#include "runtime/memory/weights.h"
#include "runtime/model/projection.h"

namespace rwkv::edge {

class DeepEmbed {
 public:
  /// `prefix` is "blocks.N.". The rows of s_emb are read as those of the embedding are.
  Status load(const Weights& weights, const std::string& prefix);

  /// gate [n_tokens][dim_ffn] for the tokens of the pass; x [n_tokens][n_embd] is the normed input
  /// of channel_mix, before it is mixed with the token before. Fails if storage does.
  Status forward(Pass& pass, const float* x, float* gate) const;
  /// Floats per token that it takes of the arena, the gate not included.
  static size_t floats(const ModelConfig& config);

 private:
  struct Buffers {
    float *s, *row, *inner, *mixed;
  };
  static Buffers take_buffers(Arena& arena, size_t n_tokens, size_t side);
  Status add_rows(Pass& pass, const Buffers& buffers) const;
  void mix(Pass& pass, const Buffers& buffers) const;

  size_t side_ = 0;  ///< of S
  RowStore* rows_ = nullptr;
  Projection from_embedding_, in_, out_;
  std::span<const float> bias_;
};

}  // namespace rwkv::edge

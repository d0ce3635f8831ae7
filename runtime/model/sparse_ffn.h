// The neurons of channel_mix: out = V relu(K x)^2, computing and reading only the neurons that are
// needed. With a predictor (RWKV-Lite) in two stages: the rows of K that it names, exactly; then
// the rows of V of those that are not zero. Without one all of K, then the rows of V: lossless.
#pragma once

#include <string>

#include "runtime/memory/weights.h"
#include "runtime/model/projection.h"

namespace rwkv::edge {

class SparseFfn {
 public:
  Status load(const Weights& weights, const std::string& prefix);

  size_t n_embd() const { return key_.cols; }
  /// x [n_tokens][n_embd] is the mixed input, out [n_tokens][n_embd]. `gate` [n_tokens][dim_ffn],
  /// or null, multiplies the neurons. `alongside`, or none, is a projection to apply meanwhile:
  /// threads wait for one another less often. Fails if storage does.
  Status forward(Pass& pass, const float* x, float* out, const float* gate,
                 const Projection::Application* alongside) const;
  /// Floats per token that it takes of the arena.
  static size_t floats(const ModelConfig& config);

 private:
  struct Buffers {
    float* neurons;
    float* mlp_scores;  ///< what the second half of a predictor says; `neurons` where it is alone
  };
  static Buffers take_buffers(Arena& arena, size_t n, bool has_both);
  Status load_predictor(const Weights& weights, const std::string& prefix);
  bool has_predictor() const { return has_sign_ || has_mlp_; }
  Status name_neurons(Pass& pass, const float* x, const Buffers& buffers,
                      const Projection::Application* alongside) const;
  void add_bias(const Pass& pass, float* out) const;
  Status activate_all(Pass& pass, const float* x, const Buffers& buffers,
                      const Projection::Application* alongside) const;
  Result<std::span<uint32_t>> activate_named(Pass& pass, const float* x, const Buffers& buffers,
                                             const Projection::Application* alongside) const;
  Result<std::span<const uint32_t>> activate(Pass& pass, const float* x, const Buffers& buffers,
                                             const Projection::Application* alongside) const;

  Matrix key_;                    ///< at least its shape; units unless rows are read on demand
  RowStore* key_rows_ = nullptr;  ///< null without a predictor
  RowStore* value_rows_ = nullptr;
  Projection sign_, mlp_;
  float sign_threshold_ = 0;
  float mlp_threshold_ = 0;
  std::span<const float> bias_;  ///< replaces the neurons not named; may be empty
  bool has_sign_ = false;
  bool has_mlp_ = false;
};

}  // namespace rwkv::edge

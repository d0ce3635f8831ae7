// What one forward pass over a chunk of tokens works with: threads, kernels, scratch memory. Made
// once per evaluator, so that decoding allocates nothing.
#pragma once

#include <cstddef>
#include <vector>

#include "formats/arch/model_config.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/thread_pool.h"

namespace rwkv::edge {

/// One layer's recurrent state, as pointers into a State. Layouts are in state.h.
struct LayerState {
  float* att_shift;
  float* wkv;
  float* ffn_shift;
};

class Run {
 public:
  /// `max_tokens`: the largest chunk. `max_rank`: the largest factor pair's inner size.
  Run(const ModelConfig& config, unsigned n_threads, size_t max_tokens, size_t max_rank);

  ThreadPool pool;
  const KernelTable& table;
  size_t n_tokens = 0;  ///< of the current chunk
  LayerState state{};   ///< of the current layer

  /// v7: the first layer's value, [n_tokens][dim_att], kept through the chunk.
  float* v_first() { return v_first_.data(); }
  /// `per_token` floats for each token of the chunk, valid until release(). Not cleared.
  float* take(size_t per_token);
  void release() { used_ = 0; }
  /// Inner vectors of factor pairs, [n_tokens][rank]; overwritten by every projection.
  float* middle() { return middle_.data(); }
  /// A thread's own buffer for one decoded row.
  float* row_scratch(unsigned thread) { return rows_.data() + thread * row_floats_; }

 private:
  size_t row_floats_;
  size_t used_ = 0;
  std::vector<float> arena_;
  std::vector<float> middle_;
  std::vector<float> rows_;
  std::vector<float> v_first_;
};

/// y = W x for every token of the chunk; x [n_tokens][cols], y [n_tokens][rows].
void matmul(Run& run, const MatrixView& w, const float* x, float* y);
/// y = W^T a for a matrix packed transposed; a [n_tokens][rows], y [n_tokens][cols]. Rows whose
/// factor is zero are not read.
void accumulate(Run& run, const MatrixView& w, const float* a, float* y);

}  // namespace rwkv::edge

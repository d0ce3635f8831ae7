// What one forward pass over a chunk of tokens works with: threads, kernels, scratch memory. Made
// once per evaluator, so that decoding allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "formats/arch/model_config.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/arena.h"
#include "runtime/model/scratch.h"
#include "runtime/storage/row_store.h"
#include "runtime/storage/stream.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::edge {

/// One layer's recurrent state, as pointers into a State. Layouts are in state.h.
struct LayerState {
  float* att_shift;
  float* wkv;
  float* ffn_shift;
};

class Pass {
 public:
  Pass(const ModelConfig& config, const KernelSet& table, const ScratchSizes& sizes);
  /// Bytes that such a pass takes.
  static uint64_t bytes(const ModelConfig& config, const ScratchSizes& sizes);

  ThreadPool pool;
  const KernelSet& table;
  size_t n_tokens = 0;       ///< of the current chunk
  LayerState state{};        ///< of the current layer
  Traffic traffic;           ///< since the evaluator last handed it over
  Stream* stream = nullptr;  ///< of parts of matrices, if some are not in memory
  Scratch scratch;
  Arena arena;  ///< vectors of the part of the network that is at work

  /// v7: the first layer's value, [n_tokens][dim_att], kept through the chunk.
  float* v_first() { return scratch.v_first.data(); }
  /// v7a: the embedded tokens of the chunk after ln0, [n_tokens][n_embd], and their ids.
  float* embedded() { return scratch.embedded.data(); }
  std::span<const int32_t> tokens;
  /// The residual stream, what it was normed to, and what half of a block gives:
  /// [n_tokens][n_embd].
  float* x() { return scratch.x.data(); }
  float* normed() { return scratch.normed.data(); }
  float* out() { return scratch.out.data(); }
  /// `per_token` floats of the arena for each token of the chunk.
  float* take(size_t per_token) { return arena.take(per_token * n_tokens); }
  void release() { arena.rewind(0); }
  /// Room for `n` products that run together; Failed where there is less.
  Result<std::span<Product>> products(size_t n);

  /// Calls f(t) for each token of the chunk, from any thread.
  template <typename F>
  void each_token(const F& f) {
    constexpr size_t kTokensAtATime = 2;
    pool.run(n_tokens, kTokensAtATime, [&](size_t begin, size_t end, unsigned) {
      for (size_t t = begin; t < end; ++t) {
        f(t);
      }
    });
  }

  /// Calls f(begin, end) for ranges of heads, from any thread.
  template <typename F>
  void each_head(size_t n_heads, const F& f) {
    constexpr size_t kRangesPerThread = 4;
    const size_t n_ranges = pool.size() == 1 ? 1 : kRangesPerThread * pool.size();
    pool.run(n_heads, (n_heads + n_ranges - 1) / n_ranges,
             [&](size_t begin, size_t end, unsigned) { f(begin, end); });
  }

  /// What the offsets of rows add to the groups of columns, [n_tokens][n_bias_groups()].
  double* bias() { return scratch.bias.data(); }

  /// Which neurons are needed, [n_tokens][dim_ffn]; lists of neurons or rows, at least dim_ffn and
  /// kMaxGather long; addresses of gathered rows, kMaxGather long.
  uint8_t* marks() { return scratch.marks.data(); }
  std::span<uint32_t> ids() { return scratch.ids; }
  /// 0, 1, 2, ...: the names of gathered rows whose products go one after another.
  std::span<const uint32_t> numbers() const { return scratch.numbers; }
  const std::byte** row_places() { return scratch.row_places.data(); }
  /// Probabilities of clusters and their order, [n_cluster] each.
  std::span<float> cluster_logs() { return scratch.cluster_logs; }
  std::span<uint32_t> cluster_order() { return scratch.cluster_order; }

  /// Rows to prefetch while the next products are computed, where the store prefetches at all.
  struct Prefetch {
    RowStore* rows = nullptr;
    uint64_t first = 0;
    uint64_t last = 0;
    /// All of them; null is none.
    static Prefetch all_of(RowStore* rows) {
      return rows ? Prefetch{rows, 0, rows->rows() - 1} : Prefetch{};
    }
  };
  void prefetch(const Prefetch& prefetch) { prefetch_ = prefetch; }
  Prefetch take_prefetch() { return std::exchange(prefetch_, {}); }

 private:
  Prefetch prefetch_;
};

}  // namespace rwkv::edge

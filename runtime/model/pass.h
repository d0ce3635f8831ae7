// What one forward pass over a chunk of tokens works with: threads, kernels, scratch memory. Made
// once per evaluator, so that decoding allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "formats/arch/model_config.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/scratch.h"
#include "runtime/storage/row_store.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::edge {

/// One layer's recurrent state, as pointers into a State. Layouts are in state.h.
struct LayerState {
  float* att_shift;
  float* wkv;
  float* ffn_shift;
};

/// Products that may run together.
inline constexpr size_t kMaxProducts = 7;

class Pass {
 public:
  Pass(const ModelConfig& config, const KernelSet& table, const ScratchSizes& sizes);
  /// Bytes that such a pass takes.
  static uint64_t bytes(const ModelConfig& config, const ScratchSizes& sizes);

  ThreadPool pool;
  const KernelSet& table;
  size_t n_tokens = 0;  ///< of the current chunk
  LayerState state{};   ///< of the current layer
  Traffic traffic;      ///< since the evaluator last handed it over

  /// v7: the first layer's value, [n_tokens][dim_att], kept through the chunk.
  float* v_first() { return scratch_.v_first.data(); }
  /// The residual stream, what it was normed to, and what half of a block gives:
  /// [n_tokens][n_embd].
  float* x() { return scratch_.x.data(); }
  float* normed() { return scratch_.normed.data(); }
  float* out() { return scratch_.out.data(); }
  /// `per_token` floats for each token of the chunk, valid until release(). Not cleared.
  float* take(size_t per_token);
  void release() { used_ = 0; }
  /// Inner vectors of factor pairs, [n_tokens][rank], of product `i` of those that run together.
  float* rank_space(size_t i) { return scratch_.rank_space.data() + i * n_tokens * max_rank_; }
  /// The inputs of product `i` of those that run together, as `codec` wants them.
  Inputs inputs(size_t i, Codec codec, const float* x, size_t cols);
  /// What the offsets of rows add to the groups of columns, [n_tokens][n_bias_groups()].
  double* bias() { return scratch_.bias.data(); }

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

  /// Which neurons are wanted, [n_tokens][dim_ffn]; lists of neurons or rows, at least dim_ffn and
  /// kMaxGather long; addresses of gathered rows, kMaxGather long.
  uint8_t* marks() { return scratch_.marks.data(); }
  std::span<uint32_t> ids() { return scratch_.ids; }
  /// 0, 1, 2, ...: the names of gathered rows whose products are wanted one behind another.
  std::span<const uint32_t> numbers() const { return scratch_.numbers; }
  const std::byte** row_places() { return scratch_.row_places.data(); }
  /// Probabilities of clusters and their order, [n_cluster] each.
  std::span<float> cluster_logs() { return scratch_.cluster_logs; }
  std::span<uint32_t> cluster_order() { return scratch_.cluster_order; }

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
  /// pool.run() for products, and the prefetch meanwhile.
  template <typename F>
  void run_products(size_t n, size_t chunk, const F& f) {
    const Prefetch prefetch = take_prefetch();
    if (!prefetch.rows || !prefetch.rows->prefetches()) {
      pool.run(n, chunk, f);
      return;
    }
    // In place of a first chunk: it must not be what the threads wait for in the end.
    pool.run(n + chunk, chunk, [&](size_t begin, size_t end, unsigned thread) {
      if (begin == 0) {
        prefetch.rows->prefetch(prefetch.first, prefetch.last);
        begin = std::min(end, chunk);
      }
      if (begin < end) {
        f(begin - chunk, end - chunk, thread);
      }
    });
  }

 private:
  Scratch scratch_;
  size_t max_rank_;
  size_t used_ = 0;  ///< floats of the arena
  Prefetch prefetch_;
};

/// y = W x for every token of the chunk; x [n_tokens][cols], y [n_tokens][rows].
struct Product {
  MatrixView w;
  const float* x;
  float* y;
};
/// Up to kMaxProducts that do not need one another's results: threads wait for one another once.
void matmul_all(Pass& pass, std::span<const Product> products);
void matmul(Pass& pass, const MatrixView& w, const float* x, float* y);

/// y[t][names[i]] = (row ids[i] of w) . x[t] for every token; y has `ldy` floats per token. Rows
/// are brought in as needed; `ids` ascend, and `order` says whether most follow the one before.
/// Fails if storage does.
Status matmul_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids,
                   std::span<const uint32_t> names, RowOrder order, const float* x, float* y,
                   size_t ldy);
/// y[t] = sum_i a[t][ids[i]] (row ids[i] of w); a has w.rows() floats per token, y has w.cols().
Status add_scaled_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids, const float* a,
                       float* y);

}  // namespace rwkv::edge

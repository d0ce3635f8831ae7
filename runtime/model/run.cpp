#include "runtime/model/run.h"

#include <algorithm>

namespace rwkv::edge {
namespace {

// Rows (or columns) handed to a thread at a time: small enough to even out, large enough that the
// handing out costs nothing.
constexpr size_t kChunk = 64;

// Floats per token that the most demanding time_mix (v7: ten vectors, four inner ones) or
// channel_mix (three vectors and the neurons) takes from the arena, with room to spare.
size_t arena_per_token(const ModelConfig& config) {
  const size_t width = std::max(config.n_embd, config.dim_att);
  return 20 * width + config.dim_ffn + config.predictor_hidden + 5 * config.mix_lora +
         config.decay_lora + config.iclr_lora + config.value_lora + config.gate_lora;
}

size_t widest_row(const ModelConfig& config, size_t max_rank) {
  return std::max(
      {config.n_embd, config.dim_att, config.dim_ffn, config.predictor_hidden, uint64_t{max_rank}});
}

}  // namespace

Run::Run(const ModelConfig& config, unsigned n_threads, size_t max_tokens, size_t max_rank)
    : pool(n_threads),
      table(kernels()),
      row_floats_(widest_row(config, max_rank)),
      arena_(max_tokens * arena_per_token(config)),
      middle_(max_tokens * max_rank),
      rows_(row_floats_ * n_threads),
      v_first_(config.version == Version::V7 ? max_tokens * config.dim_att : 0),
      marks_(max_tokens * config.dim_ffn),
      ids_(std::max<size_t>(config.dim_ffn, kMaxGather)),
      row_places_(kMaxGather),
      cluster_logs_(config.n_cluster),
      cluster_order_(config.n_cluster) {}

uint64_t Run::bytes(const ModelConfig& config, unsigned n_threads, size_t max_tokens,
                    size_t max_rank) {
  const uint64_t floats = max_tokens * (arena_per_token(config) + max_rank) +
                          widest_row(config, max_rank) * n_threads +
                          (config.version == Version::V7 ? max_tokens * config.dim_att : 0);
  return floats * sizeof(float) + max_tokens * config.dim_ffn +
         std::max<size_t>(config.dim_ffn, kMaxGather) * sizeof(uint32_t) +
         kMaxGather * sizeof(void*) + 2 * config.n_cluster * sizeof(float);
}

float* Run::take(size_t per_token) {
  float* found = arena_.data() + used_;
  used_ += per_token * n_tokens;
  return found;
}

void matmul(Run& run, const MatrixView& w, const float* x, float* y) {
  const MatmulFn fn = run.table.matmul(w.codec);
  run.pool.run(w.rows, kChunk, [&](size_t begin, size_t end, unsigned thread) {
    fn(w, x, run.n_tokens, y, w.rows, begin, end, run.row_scratch(thread));
  });
}

void accumulate(Run& run, const MatrixView& w, const float* a, float* y) {
  const AccumulateFn fn = run.table.accumulate(w.codec);
  const size_t share = (w.cols + run.pool.size() - 1) / run.pool.size();
  run.pool.run(w.cols, std::max(kChunk, share), [&](size_t begin, size_t end, unsigned thread) {
    fn(w, a, run.n_tokens, y, begin, end, run.row_scratch(thread));
  });
}

Status matmul_rows(Run& run, RowStore& w, std::span<const uint32_t> ids,
                   std::span<const uint32_t> names, const float* x, float* y, size_t ldy) {
  const MatmulRowsFn fn = run.table.matmul_rows(w.codec());
  run.touched_bytes += ids.size() * w.row_bytes();
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(run.pool, ids, run.row_places()));
    const RowsView view{run.row_places(), names.data(), n, w.codec(), w.cols()};
    run.pool.run(n, kChunk, [&](size_t begin, size_t end, unsigned thread) {
      fn(view, x, run.n_tokens, y, ldy, begin, end, run.row_scratch(thread));
    });
    ids = ids.subspan(n);
    names = names.subspan(n);
  }
  return {};
}

Status accumulate_rows(Run& run, RowStore& w, std::span<const uint32_t> ids, const float* a,
                       float* y) {
  const AccumulateRowsFn fn = run.table.accumulate_rows(w.codec());
  run.touched_bytes += ids.size() * w.row_bytes();
  std::fill(y, y + run.n_tokens * w.cols(), 0.0f);
  const size_t share = (w.cols() + run.pool.size() - 1) / run.pool.size();
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(run.pool, ids, run.row_places()));
    const RowsView view{run.row_places(), ids.data(), n, w.codec(), w.cols()};
    run.pool.run(w.cols(), std::max(kChunk, share), [&](size_t begin, size_t end, unsigned thread) {
      fn(view, a, w.rows(), run.n_tokens, y, begin, end, run.row_scratch(thread));
    });
    ids = ids.subspan(n);
  }
  return {};
}

}  // namespace rwkv::edge

#include "runtime/model/run.h"

#include <algorithm>
#include <array>

namespace rwkv::edge {
namespace {

// What is handed to a thread at a time: small enough to even out, large enough that the handing out
// costs nothing. Rows are handed out in multiples of what kernels take together.
constexpr size_t kLeastChunk = size_t{16} << 10;
constexpr size_t kMostChunk = size_t{128} << 10;
// Rows here and there come at less than half the speed, so the last piece is waited for longer.
constexpr size_t kMostScattered = kLeastChunk;
constexpr size_t kChunksPerThread = 4;
constexpr size_t kRowStep = 8;
// Columns of rows that are added up: a few pieces per thread, each of whole cache lines.
constexpr size_t kColumnStep = 64;
constexpr size_t kPiecesPerThread = 2;

// Floats per token that the most demanding time_mix (v7: fourteen vectors, four inner ones) or
// channel_mix (three vectors, the neurons, and what one half of a predictor says of them) takes
// from the arena, with room to spare.
size_t arena_per_token(const ModelConfig& config) {
  const size_t width = std::max(config.n_embd, config.dim_att);
  const size_t time_mix = 20 * width + 10 * config.mix_lora + config.decay_lora + config.iclr_lora +
                          config.value_lora + config.gate_lora;
  const size_t channel_mix = 3 * width + (config.predictor_hidden > 0 ? 2 : 1) * config.dim_ffn;
  return std::max(time_mix, channel_mix);
}

size_t widest_row(const ModelConfig& config, size_t max_rank) {
  return std::max(
      {config.n_embd, config.dim_att, config.dim_ffn, config.predictor_hidden, uint64_t{max_rank}});
}

// The longest input of a product.
size_t widest_input(const ModelConfig& config, size_t max_rank) {
  return std::max({config.n_embd, config.dim_att, config.predictor_hidden, config.mix_lora,
                   config.decay_lora, config.iclr_lora, config.value_lora, config.gate_lora,
                   uint64_t{max_rank}});
}

}  // namespace

Run::Run(const ModelConfig& config, const KernelTable& kernels, unsigned n_threads,
         size_t max_tokens, size_t max_rank)
    : pool(n_threads),
      table(kernels),
      row_floats_(widest_row(config, max_rank)),
      arena_(max_tokens * arena_per_token(config)),
      middle_size_(max_tokens * max_rank),
      middle_(kMaxProducts * middle_size_),
      whole_size_(max_tokens * padded_cols(widest_input(config, max_rank))),
      max_tokens_(max_tokens),
      whole_(kMaxProducts * whole_size_),
      planes_(max_tokens * byte_planes_size(widest_input(config, max_rank))),
      steps_(kMaxProducts * max_tokens),
      sums_(kMaxProducts * max_tokens),
      bias_(max_tokens),
      rows_(row_floats_ * n_threads),
      v_first_(config.version == Version::V7 ? max_tokens * config.dim_att : 0),
      marks_(max_tokens * config.dim_ffn),
      ids_(std::max<size_t>(config.dim_ffn, kMaxGather)),
      names_(kMaxGather),
      row_places_(kMaxGather),
      cluster_logs_(config.n_cluster),
      cluster_order_(config.n_cluster) {}

uint64_t Run::bytes(const ModelConfig& config, unsigned n_threads, size_t max_tokens,
                    size_t max_rank) {
  const uint64_t widest = widest_row(config, max_rank);
  const uint64_t floats = max_tokens * (arena_per_token(config) + kMaxProducts * (max_rank + 2)) +
                          widest * n_threads +
                          (config.version == Version::V7 ? max_tokens * config.dim_att : 0);
  return floats * sizeof(float) + (max_tokens > 1 ? n_threads * kKernelStack : 0) +
         max_tokens * (config.dim_ffn + sizeof(double)) +
         max_tokens *
             (kMaxProducts * padded_cols(widest_input(config, max_rank)) * sizeof(int16_t) +
              byte_planes_size(widest_input(config, max_rank))) +
         (std::max<size_t>(config.dim_ffn, kMaxGather) + kMaxGather) * sizeof(uint32_t) +
         kMaxGather * sizeof(void*) + 2 * config.n_cluster * sizeof(float);
}

float* Run::take(size_t per_token) {
  float* found = arena_.data() + used_;
  used_ += per_token * n_tokens;
  return found;
}

Inputs Run::inputs(size_t i, Codec codec, const float* x, size_t cols) {
  Inputs inputs{x, n_tokens, cols};
  if (!whole_inputs(codec)) {
    return inputs;
  }
  int16_t* q = whole_.data() + i * whole_size_;
  float* steps = steps_.data() + i * max_tokens_;
  float* sums = sums_.data() + i * max_tokens_;
  // Nobody has one-bit matrices that run together with others; if so, the kernels do without.
  const bool with_planes = table.wants_planes && codec == Codec::SignRow && i == 0;
  each_token([&](size_t t) {
    int16_t* to = q + t * padded_cols(cols);
    table.quantize_input(x + t * cols, cols, to, steps + t, sums + t);
    if (codec == Codec::SignRow) {
      byte_inputs(to, cols);
    }
    if (with_planes) {
      byte_planes(to, cols, planes_.data() + t * byte_planes_size(cols));
    }
  });
  inputs.planes = with_planes ? planes_.data() : nullptr;
  inputs.q = q;
  inputs.step = steps;
  inputs.sum = sums;
  return inputs;
}

namespace {

// Of `n_rows` of `n_bytes` together. One thread takes them in one stream; but the rows of a chunk
// are gone through for some tokens after others, so with many they must stay in a cache.
size_t rows_at_a_time(const Run& run, size_t n_rows, size_t n_bytes, size_t most = kMostChunk) {
  const size_t n_threads = run.pool.size();
  if (n_threads == 1 && run.n_tokens == 1) {
    return n_rows;
  }
  const size_t chunk = std::clamp(n_bytes / (kChunksPerThread * n_threads), kLeastChunk, most);
  return std::max(kRowStep, n_rows * chunk / std::max<size_t>(1, n_bytes) / kRowStep * kRowStep);
}

// What the gather after one of `n` rows will want: the rest of them, or what the caller expects.
Run::Expected expected_after(RowStore& w, std::span<const uint32_t> ids, size_t n,
                             const Run::Expected& otherwise) {
  if (n == ids.size() || !w.may_expect()) {
    return otherwise;
  }
  return {&w, ids[n], ids[n + w.in_one_stretch(ids.subspan(n)) - 1]};
}

size_t columns_at_a_time(const Run& run, size_t cols) {
  if (run.pool.size() == 1 && run.n_tokens == 1) {
    return cols;
  }
  const size_t n_pieces = kPiecesPerThread * run.pool.size();
  return (cols / n_pieces + kColumnStep) / kColumnStep * kColumnStep;
}

}  // namespace

void matmul_all(Run& run, std::span<const Product> products) {
  std::array<Inputs, kMaxProducts> inputs;
  std::array<MatmulFn, kMaxProducts> fns{};
  std::array<size_t, kMaxProducts + 1> first{};  // of all rows, those of each matrix
  size_t n_bytes = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    const MatrixView& w = products[i].w;
    inputs[i] = run.inputs(i, w.codec, products[i].x, w.cols);
    fns[i] = run.table.matmul(w.codec);
    first[i + 1] = first[i] + w.rows;
    n_bytes += codec_traits(w.codec).row_bytes(w.cols) * w.rows;
  }
  const size_t n_rows = first[products.size()];
  const size_t chunk = rows_at_a_time(run, n_rows, n_bytes);
  run.run_products(n_rows, chunk, [&](size_t begin, size_t end, unsigned thread) {
    for (size_t i = 0; i < products.size(); ++i) {
      const size_t from = std::max(begin, first[i]);
      const size_t to = std::min(end, first[i + 1]);
      if (from < to) {
        fns[i](products[i].w, inputs[i], products[i].y, products[i].w.rows, from - first[i],
               to - first[i], run.row_scratch(thread));
      }
    }
  });
}

void matmul(Run& run, const MatrixView& w, const float* x, float* y) {
  const Product product{w, x, y};
  matmul_all(run, {&product, 1});
}

void accumulate(Run& run, const MatrixView& w, const float* a, float* y) {
  const AccumulateFn fn = run.table.accumulate(w.codec);
  run.pool.run(w.cols, columns_at_a_time(run, w.cols),
               [&](size_t begin, size_t end, unsigned thread) {
                 fn(w, a, run.n_tokens, y, begin, end, run.row_scratch(thread));
               });
}

Status matmul_rows(Run& run, RowStore& w, std::span<const uint32_t> ids,
                   std::span<const uint32_t> names, RowsLie lie, const float* x, float* y,
                   size_t ldy) {
  const MatmulRowsFn fn = run.table.matmul_rows(w.codec());
  const Inputs inputs = run.inputs(0, w.codec(), x, w.cols());
  const Run::Expected after = run.take_expected();
  run.touched_bytes += ids.size() * w.row_bytes();
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(run.pool, ids, run.row_places()));
    run.expect(expected_after(w, ids, n, after));
    const RowsView view{run.row_places(), names.data(), n, w.codec(), w.cols(), lie};
    const size_t chunk = rows_at_a_time(run, n, n * w.row_bytes(),
                                        lie == RowsLie::InRuns ? kMostChunk : kMostScattered);
    run.run_products(n, chunk, [&](size_t begin, size_t end, unsigned thread) {
      fn(view, inputs, y, ldy, begin, end, run.row_scratch(thread));
    });
    ids = ids.subspan(n);
    names = names.subspan(n);
  }
  w.release();
  return {};
}

Status accumulate_rows(Run& run, RowStore& w, std::span<const uint32_t> ids, const float* a,
                       float* y) {
  const AccumulateRowsFn fn = run.table.accumulate_rows(w.codec());
  const size_t n_cols = w.cols();
  const Run::Expected after = run.take_expected();
  run.touched_bytes += ids.size() * w.row_bytes();
  std::fill(y, y + run.n_tokens * n_cols, 0.0f);
  std::fill(run.bias(), run.bias() + run.n_tokens, 0.0);
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(run.pool, ids, run.row_places()));
    run.expect(expected_after(w, ids, n, after));
    const RowsView view{run.row_places(), ids.data(), n, w.codec(), n_cols};
    run.run_products(
        n_cols, columns_at_a_time(run, n_cols), [&](size_t begin, size_t end, unsigned thread) {
          fn(view, a, w.rows(), run.n_tokens, y, run.bias(), begin, end, run.row_scratch(thread));
        });
    ids = ids.subspan(n);
  }
  w.release();
  run.each_token([&](size_t t) {
    run.table.elementwise->add_constant(y + t * n_cols, static_cast<float>(run.bias()[t]), n_cols);
  });
  return {};
}

}  // namespace rwkv::edge

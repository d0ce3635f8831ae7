#include "runtime/model/pass.h"

#include <algorithm>
#include <array>

namespace rwkv::edge {
namespace {

// The work that a thread gets at a time: small enough to balance, large enough that distributing
// costs nothing. Rows are handed out in multiples of the number that kernels process together.
constexpr size_t kLeastChunk = size_t{16} << 10;
constexpr size_t kMostChunk = size_t{128} << 10;
// Scattered rows are read at less than half the speed, so waiting for the last piece takes longer.
constexpr size_t kMostScattered = kLeastChunk;
constexpr size_t kChunksPerThread = 4;
constexpr size_t kRowStep = 8;
// Columns of transposed products: a few pieces per thread, each of whole cache lines.
constexpr size_t kColumnStep = 64;
constexpr size_t kColumnsOfMany = 48;  // with many tokens, of what every table takes together
constexpr size_t kPiecesPerThread = 2;

size_t whole_steps(size_t n, size_t step) {
  return (n + step - 1) / step * step;
}

}  // namespace

Pass::Pass(const ModelConfig& config, const KernelSet& kernels, const ScratchSizes& sizes)
    : pool(sizes.n_threads), table(kernels), scratch_(config, sizes), max_rank_(sizes.max_rank) {}

uint64_t Pass::bytes(const ModelConfig& config, const ScratchSizes& sizes) {
  return Scratch::bytes(config, sizes) +
         (sizes.max_tokens > 1 ? sizes.n_threads * kKernelStack : 0);
}

float* Pass::take(size_t per_token) {
  float* found = scratch_.arena.data() + used_;
  used_ += per_token * n_tokens;
  return found;
}

Inputs Pass::inputs(size_t i, Codec codec, const float* x, size_t cols) {
  Inputs inputs{x, n_tokens, cols};
  const InputForm form = input_form(codec);
  if (form == InputForm::Floats) {
    return inputs;
  }
  int16_t* q = scratch_.integers.data() + i * n_tokens * scratch_.widest_input;
  float* steps = scratch_.steps.data() + i * n_tokens;
  float* sums = scratch_.sums.data() + i * n_tokens;
  const size_t n_groups = n_group_sums(cols);
  float* group_sums =
      scratch_.group_sums.data() + i * n_tokens * n_group_sums(scratch_.widest_input);
  int8_t* planes = scratch_.planes.data();
  // Only the first product of a batch gets byte planes; others use the slower path.
  const bool with_planes = table.uses_planes && form == InputForm::BytePlanes && i == 0;
  const bool with_group_sums = uses_group_sums(codec);
  each_token([&](size_t t) {
    int16_t* to = q + t * padded_cols(cols);
    table.quantize_input(x + t * cols, cols, to, steps + t, sums + t);
    if (form == InputForm::BytePlanes) {
      byte_inputs(to, cols);
    }
    if (with_planes) {
      byte_planes(to, cols, planes + t * byte_planes_size(cols));
    }
    if (with_group_sums) {
      sum_groups(x + t * cols, cols, group_sums + t * n_groups);
    }
  });
  inputs.planes = with_planes ? planes : nullptr;
  inputs.q = q;
  inputs.step = steps;
  inputs.sum = sums;
  inputs.group_sums = group_sums;
  return inputs;
}

namespace {

// One thread takes everything as one stream. But the rows of a chunk are read again for each group
// of tokens, so with many tokens they must stay in a cache.
bool takes_all_at_once(const Pass& pass) {
  return pass.pool.size() == 1 && pass.n_tokens == 1;
}

// Of `n_bytes` that several threads read.
size_t bytes_at_a_time(const Pass& pass, size_t n_bytes, size_t most) {
  return std::clamp(n_bytes / (kChunksPerThread * pass.pool.size()), kLeastChunk, most);
}

// Of `n_rows` of `n_bytes` together.
size_t rows_at_a_time(const Pass& pass, size_t n_rows, size_t n_bytes, size_t most) {
  if (takes_all_at_once(pass)) {
    return n_rows;
  }
  const size_t chunk = bytes_at_a_time(pass, n_bytes, most);
  return std::max(kRowStep, n_rows * chunk / std::max<size_t>(1, n_bytes) / kRowStep * kRowStep);
}

size_t bytes_of(const MatrixView& w) {
  return codec_traits(w.codec).encoded_bytes(w.rows, w.cols);
}

// Rows of each piece of a matrix; a piece has about `chunk` bytes.
size_t rows_of_piece(const Pass& pass, const MatrixView& w, size_t chunk) {
  const size_t n_pieces =
      takes_all_at_once(pass) ? 1 : std::max<size_t>(1, (bytes_of(w) + chunk / 2) / chunk);
  return whole_steps((w.rows + n_pieces - 1) / n_pieces,
                     std::max<size_t>(kRowStep, codec_traits(w.codec).unit_rows));
}

// What the gather after one of `n` rows will want: the rest of them, or what the caller expects.
Pass::Prefetch prefetch_after(RowStore& w, std::span<const uint32_t> ids, size_t n,
                              const Pass::Prefetch& otherwise) {
  if (n == ids.size() || !w.prefetches()) {
    return otherwise;
  }
  return {&w, ids[n], ids[n + w.next_gather(ids.subspan(n)) - 1]};
}

// Whole groups, where columns have groups.
size_t columns_at_a_time(const Pass& pass, Codec codec, size_t cols) {
  const size_t n_pieces = kPiecesPerThread * pass.pool.size();
  const size_t group = codec_traits(codec).group;
  const size_t step = group > 0 ? group : pass.n_tokens > 1 ? kColumnsOfMany : kColumnStep;
  return takes_all_at_once(pass) ? cols : whole_steps((cols + n_pieces - 1) / n_pieces, step);
}

}  // namespace

void matmul_all(Pass& pass, std::span<const Product> products) {
  std::array<Inputs, kMaxProducts> inputs;
  std::array<MatmulFn, kMaxProducts> fns{};
  std::array<size_t, kMaxProducts> n_rows{};     // of a piece of each matrix
  std::array<size_t, kMaxProducts + 1> first{};  // of all pieces, those of each matrix
  size_t n_bytes = 0;
  for (const Product& product : products) {
    n_bytes += bytes_of(product.w);
  }
  const size_t chunk = bytes_at_a_time(pass, n_bytes, kMostChunk);
  for (size_t i = 0; i < products.size(); ++i) {
    const MatrixView& w = products[i].w;
    inputs[i] = pass.inputs(i, w.codec, products[i].x, w.cols);
    fns[i] = pass.table.matmul(w.codec);
    n_rows[i] = rows_of_piece(pass, w, chunk);
    first[i + 1] = first[i] + (w.rows + n_rows[i] - 1) / n_rows[i];
  }
  pass.run_products(first[products.size()], 1, [&](size_t begin, size_t end, unsigned) {
    for (size_t i = 0; i < products.size(); ++i) {
      const size_t from = std::max(begin, first[i]);
      const size_t to = std::min(end, first[i + 1]);
      if (from < to) {
        const MatrixView& w = products[i].w;
        fns[i](w, inputs[i], products[i].y, w.rows, (from - first[i]) * n_rows[i],
               std::min(w.rows, (to - first[i]) * n_rows[i]));
      }
    }
  });
}

void matmul(Pass& pass, const MatrixView& w, const float* x, float* y) {
  const Product product{w, x, y};
  matmul_all(pass, {&product, 1});
}

Status matmul_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids,
                   std::span<const uint32_t> names, RowOrder order, const float* x, float* y,
                   size_t ldy) {
  const MatmulRowsFn fn = pass.table.matmul_rows(w.codec());
  const Inputs inputs = pass.inputs(0, w.codec(), x, w.cols());
  const Pass::Prefetch after = pass.take_prefetch();
  pass.traffic.touch(w.component(), ids.size() * w.row_bytes());
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(pass.pool, pass.traffic, ids, pass.row_places()));
    pass.prefetch(prefetch_after(w, ids, n, after));
    const RowsView view{w.shared(), pass.row_places(), names.data(), n, w.codec(), w.cols(), order};
    const size_t chunk = rows_at_a_time(
        pass, n, n * w.row_bytes(), order == RowOrder::Contiguous ? kMostChunk : kMostScattered);
    pass.run_products(n, chunk, [&](size_t begin, size_t end, unsigned) {
      fn(view, inputs, y, ldy, begin, end);
    });
    ids = ids.subspan(n);
    names = names.subspan(n);
  }
  w.release();
  return {};
}

Status add_scaled_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids, const float* a,
                       float* y) {
  const AddScaledRowsFn fn = pass.table.add_scaled_rows(w.codec());
  const size_t n_cols = w.cols();
  const size_t n_groups = n_bias_groups(w.codec(), n_cols);
  const size_t group = n_groups == 1 ? n_cols : codec_traits(w.codec()).group;
  double* const bias = pass.bias();
  const Pass::Prefetch after = pass.take_prefetch();
  pass.traffic.touch(w.component(), ids.size() * w.row_bytes());
  std::fill(y, y + pass.n_tokens * n_cols, 0.0f);
  std::fill(bias, bias + pass.n_tokens * n_groups, 0.0);
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(pass.pool, pass.traffic, ids, pass.row_places()));
    pass.prefetch(prefetch_after(w, ids, n, after));
    const RowsView view{w.shared(), pass.row_places(), ids.data(), n, w.codec(), n_cols};
    pass.run_products(n_cols, columns_at_a_time(pass, w.codec(), n_cols),
                      [&](size_t begin, size_t end, unsigned) {
                        fn(view, a, w.rows(), pass.n_tokens, y, bias, begin, end);
                      });
    ids = ids.subspan(n);
  }
  w.release();
  pass.each_token([&](size_t t) {
    for (size_t g = 0; g < n_groups; ++g) {
      pass.table.elementwise->add_constant(y + t * n_cols + g * group,
                                           static_cast<float>(bias[t * n_groups + g]),
                                           std::min(group, n_cols - g * group));
    }
  });
  return {};
}

}  // namespace rwkv::edge

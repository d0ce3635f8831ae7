#include "runtime/model/products.h"

#include <algorithm>
#include <array>

#include "runtime/model/job_inputs.h"

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

// What the gather after one of `n` rows will need: the rest of them, or what the caller prefetches.
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

// pool.run() for products, and the prefetch that the pass was told of. A page is brought by whoever
// touches it first, so prefetching takes a thread's time: it is one more chunk of the job, the
// first, since the last is what the threads wait for in the end. With a thread of its own, a core
// that computes would lose the time twice.
template <typename F>
void run_products(Pass& pass, size_t n, size_t chunk, const F& f) {
  const Pass::Prefetch prefetch = pass.take_prefetch();
  if (!prefetch.rows || !prefetch.rows->prefetches()) {
    pass.pool.run(n, chunk, f);
    return;
  }
  pass.pool.run(n + chunk, chunk, [&](size_t begin, size_t end, unsigned thread) {
    if (begin == 0) {
      prefetch.rows->prefetch(prefetch.first, prefetch.last);
      begin = std::min(end, chunk);
    }
    if (begin < end) {
      f(begin - chunk, end - chunk, thread);
    }
  });
}

// Jobs whose inputs are prepared, all together.
void run_jobs(Pass& pass, std::span<ProductJob> jobs) {
  size_t n_bytes = 0;
  for (const ProductJob& job : jobs) {
    n_bytes += bytes_of(job.w);
  }
  const size_t chunk = bytes_at_a_time(pass, n_bytes, kMostChunk);
  size_t n_pieces = 0;
  for (ProductJob& job : jobs) {
    job.piece_rows = rows_of_piece(pass, job.w, chunk);
    job.first_piece = n_pieces;
    n_pieces += (job.w.rows + job.piece_rows - 1) / job.piece_rows;
  }
  run_products(pass, n_pieces, 1, [&](size_t begin, size_t end, unsigned) {
    for (size_t i = 0; i < jobs.size(); ++i) {
      const ProductJob& job = jobs[i];
      const size_t from = std::max(begin, job.first_piece);
      const size_t to = std::min(end, i + 1 < jobs.size() ? jobs[i + 1].first_piece : n_pieces);
      if (from < to) {
        job.fn(job.w, job.inputs, job.y, job.ldy, (from - job.first_piece) * job.piece_rows,
               std::min(job.w.rows, (to - job.first_piece) * job.piece_rows));
      }
    }
  });
}

// Products of which some lie in pieces of the stream. What is in memory runs together with the next
// piece that will be overwritten, or before it, where that has to be waited for.
class PartJobs {
 public:
  explicit PartJobs(Pass& pass) : pass_(pass), inputs_(pass) {}
  Status add(const Product& product);
  void run();

 private:
  static constexpr size_t kNone = SIZE_MAX;
  Status add(const Product& product, const MatrixPart& part);
  Status add(const Product& product, const MatrixView& w, uint64_t first_row);
  void leave_out(const Product& product, const MatrixPart& part) const;

  Pass& pass_;
  JobInputs inputs_;
  std::array<ProductJob, 8> jobs_;
  size_t n_ = 0;
  size_t first_step_ = kNone;  // of the stream, among the jobs
  size_t last_step_ = kNone;
  bool has_passing_ = false;  // a piece that will be overwritten
};

Status PartJobs::add(const Product& product) {
  if (product.w.parts.empty()) {
    return add(product, product.w, 0);
  }
  for (const MatrixPart& part : product.w.parts) {
    RWKV_TRY(add(product, part));
  }
  return {};
}

Status PartJobs::add(const Product& product, const MatrixPart& part) {
  const bool is_passing = !pass_.stream->stays(part.step);
  if ((is_passing && has_passing_) || !pass_.stream->has(part.step)) {
    run();
  }
  RWKV_TRY(pass_.stream->await(part.step, std::min<size_t>(first_step_, part.step), pass_.traffic));
  const MatrixView view = pass_.stream->view(part.step);
  if (!view.units) {
    leave_out(product, part);
    return {};
  }
  RWKV_TRY(add(product, view, part.first_row));
  first_step_ = std::min<size_t>(first_step_, part.step);
  last_step_ = part.step;
  has_passing_ = has_passing_ || is_passing;
  return {};
}

Status PartJobs::add(const Product& product, const MatrixView& w, uint64_t first_row) {
  if (n_ == jobs_.size()) {
    run();
  }
  RWKV_ASSIGN(const ProductJob* const job, inputs_.with_form(w.codec, product.x, w.cols));
  ProductJob& added = jobs_[n_++];
  added = *job;
  added.fn = pass_.table.matmul(w.codec);
  added.w = w;
  added.y = product.y + first_row;
  added.ldy = product.w.rows;
  return {};
}

void PartJobs::leave_out(const Product& product, const MatrixPart& part) const {
  for (size_t t = 0; t < pass_.n_tokens; ++t) {
    std::fill_n(product.y + t * product.w.rows + part.first_row, part.n_rows, 0.0f);
  }
}

void PartJobs::run() {
  run_jobs(pass_, std::span(jobs_).first(n_));
  n_ = 0;
  if (last_step_ != kNone) {
    pass_.stream->done(last_step_, pass_.traffic);
  }
  first_step_ = last_step_ = kNone;
  has_passing_ = false;
}

Status multiply_in_parts(Pass& pass, std::span<const Product> products) {
  PartJobs parts(pass);
  for (const Product& product : products) {
    RWKV_TRY(parts.add(product));
  }
  parts.run();
  return {};
}

}  // namespace

Status matmul_all(Pass& pass, std::span<const Product> products) {
  if (std::any_of(products.begin(), products.end(),
                  [](const Product& product) { return !product.w.parts.empty(); })) {
    return multiply_in_parts(pass, products);
  }
  JobInputs inputs(pass);
  for (const auto& [w, x, y] : products) {
    RWKV_ASSIGN(ProductJob* const job, inputs.add(w.codec, x, w.cols));
    job->fn = pass.table.matmul(w.codec);
    job->w = w;
    job->y = y;
    job->ldy = w.rows;
  }
  run_jobs(pass, pass.scratch.jobs.first(products.size()));
  return {};
}

Status matmul(Pass& pass, const Matrix& w, const float* x, float* y) {
  const Product product{w, x, y};
  return matmul_all(pass, {&product, 1});
}

Status matmul_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids,
                   std::span<const uint32_t> names, RowOrder order, const float* x, float* y,
                   size_t ldy) {
  const MatmulRowsFn fn = pass.table.matmul_rows(w.codec());
  RWKV_ASSIGN(const ProductJob* const job, JobInputs(pass).add(w.codec(), x, w.cols()));
  const Pass::Prefetch after = pass.take_prefetch();
  pass.traffic.touch(w.component(), ids.size() * w.row_bytes());
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(pass.pool, pass.traffic, ids, pass.row_places()));
    pass.prefetch(prefetch_after(w, ids, n, after));
    const RowsView view{w.shared(), pass.row_places(), names.data(), n, w.codec(), w.cols(), order};
    const size_t chunk = rows_at_a_time(
        pass, n, n * w.row_bytes(), order == RowOrder::Contiguous ? kMostChunk : kMostScattered);
    run_products(pass, n, chunk, [&](size_t begin, size_t end, unsigned) {
      fn(view, job->inputs, y, ldy, begin, end);
    });
    ids = ids.subspan(n);
    names = names.subspan(n);
  }
  w.release();
  return {};
}

namespace {

// What the offsets of rows add to groups of columns, collected over rows of one codec.
class RowOffsets {
 public:
  RowOffsets(Pass& pass, size_t n_cols, float* y) : pass_(pass), n_cols_(n_cols), y_(y) {}

  // Rows of this codec follow.
  void expect(Codec codec) {
    if (n_groups_ > 0 && codec == codec_) {
      return;
    }
    add();
    codec_ = codec;
    n_groups_ = n_bias_groups(codec, n_cols_);
    std::fill_n(pass_.bias(), pass_.n_tokens * n_groups_, 0.0);
  }

  // Adds what was collected to the result.
  void add() {
    const size_t group = n_groups_ == 1 ? n_cols_ : codec_traits(codec_).group;
    const double* const bias = pass_.bias();
    pass_.each_token([&](size_t t) {
      for (size_t g = 0; g < n_groups_; ++g) {
        pass_.table.elementwise->add_constant(y_ + t * n_cols_ + g * group,
                                              static_cast<float>(bias[t * n_groups_ + g]),
                                              std::min(group, n_cols_ - g * group));
      }
    });
  }

 private:
  Pass& pass_;
  size_t n_cols_;
  float* y_;
  Codec codec_ = Codec::F32;
  size_t n_groups_ = 0;  // 0: no rows yet
};

}  // namespace

Status add_scaled_rows(Pass& pass, RowStore& w, std::span<const uint32_t> ids, const float* a,
                       float* y) {
  const size_t n_cols = w.cols();
  const Pass::Prefetch after = pass.take_prefetch();
  pass.traffic.touch(w.component(), ids.size() * w.row_bytes());
  std::fill(y, y + pass.n_tokens * n_cols, 0.0f);
  RowOffsets offsets(pass, n_cols, y);
  while (!ids.empty()) {
    RWKV_ASSIGN(const size_t n, w.gather(pass.pool, pass.traffic, ids, pass.row_places()));
    pass.prefetch(prefetch_after(w, ids, n, after));
    const RowForm form = w.form();
    if (!form.is_left_out) {
      offsets.expect(form.codec);
      const AddScaledRowsFn fn = pass.table.add_scaled_rows(form.codec);
      const RowsView view{form.shared, pass.row_places(), ids.data(), n, form.codec, n_cols};
      run_products(pass, n_cols, columns_at_a_time(pass, form.codec, n_cols),
                   [&](size_t begin, size_t end, unsigned) {
                     fn(view, a, w.rows(), pass.n_tokens, y, pass.bias(), begin, end);
                   });
    }
    ids = ids.subspan(n);
  }
  w.release();
  offsets.add();
  return {};
}

}  // namespace rwkv::edge

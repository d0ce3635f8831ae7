#include "runtime/model/products.h"

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

// The inputs of one job, each in every form that some product needs.
class JobInputs {
 public:
  explicit JobInputs(Pass& pass) : pass_(pass), jobs_(pass.scratch.jobs) {}

  /// The next product's row in the table of jobs, with its inputs.
  Result<ProductJob*> add(Codec codec, const float* x, size_t cols);

 private:
  bool find(ProductJob& job, const float* x) const;
  Status prepare(ProductJob& job, size_t cols);
  Status prepare_bytes(ProductJob& job, size_t cols);

  Pass& pass_;
  std::span<ProductJob> jobs_;
  size_t n_jobs_ = 0;
  size_t n_prepared_ = 0;
  size_t integers_ = 0, planes_ = 0, group_sums_ = 0, byte_groups_ = 0;  // used so far
};

Result<ProductJob*> JobInputs::add(Codec codec, const float* x, size_t cols) {
  if (n_jobs_ == jobs_.size()) {
    return failed(
        "scratch memory has room for {} products in a job, not for more; this is a program "
        "error",
        jobs_.size());
  }
  ProductJob& job = jobs_[n_jobs_];
  job.form = input_form(codec);
  job.has_group_sums = uses_group_sums(codec);
  job.inputs = Inputs{x, pass_.n_tokens, cols};
  if (job.form != InputForm::Floats && !find(job, x)) {
    RWKV_TRY(job.form == InputForm::ByteGroups ? prepare_bytes(job, cols) : prepare(job, cols));
  }
  ++n_jobs_;
  return &job;
}

// An earlier product may have the same inputs.
bool JobInputs::find(ProductJob& job, const float* x) const {
  for (const ProductJob& before : jobs_.first(n_jobs_)) {
    if (before.inputs.x == x && before.form == job.form &&
        before.has_group_sums == job.has_group_sums && before.inputs.cols == job.inputs.cols) {
      job.inputs = before.inputs;
      return true;
    }
  }
  return false;
}

Status JobInputs::prepare(ProductJob& job, size_t cols) {
  Scratch& scratch = pass_.scratch;
  const size_t n_tokens = pass_.n_tokens;
  const bool has_planes = pass_.table.uses_planes && job.form == InputForm::BytePlanes;
  int16_t* const q = scratch.integers.data() + integers_;
  int8_t* const planes = scratch.planes.data() + planes_;
  float* const group_sums = scratch.group_sums.data() + group_sums_;
  float* const steps = scratch.steps.data() + n_prepared_ * n_tokens;
  float* const sums = scratch.sums.data() + n_prepared_ * n_tokens;
  ++n_prepared_;
  integers_ += n_tokens * padded_cols(cols);
  planes_ += has_planes ? n_tokens * byte_planes_size(cols) : 0;
  group_sums_ += job.has_group_sums ? n_tokens * n_group_sums(cols) : 0;
  if (integers_ > scratch.integers.size() || planes_ > scratch.planes.size() ||
      group_sums_ > scratch.group_sums.size() || n_prepared_ * n_tokens > scratch.steps.size()) {
    return failed("scratch memory is too small for the inputs of a job; this is a program error");
  }
  pass_.each_token([&](size_t t) {
    const float* const x = job.inputs.x + t * cols;
    int16_t* const to = q + t * padded_cols(cols);
    pass_.table.quantize_input(x, cols, to, steps + t, sums + t);
    if (job.form == InputForm::BytePlanes) {
      byte_inputs(to, cols);
    }
    if (has_planes) {
      byte_planes(to, cols, planes + t * byte_planes_size(cols));
    }
    if (job.has_group_sums) {
      sum_groups(x, cols, group_sums + t * n_group_sums(cols));
    }
  });
  job.inputs.q = q;
  job.inputs.planes = has_planes ? planes : nullptr;
  job.inputs.step = steps;
  job.inputs.sum = sums;
  job.inputs.group_sums = job.has_group_sums ? group_sums : nullptr;
  return {};
}

Status JobInputs::prepare_bytes(ProductJob& job, size_t cols) {
  Scratch& scratch = pass_.scratch;
  const size_t n_groups = n_byte_groups(cols);
  int8_t* const bytes = scratch.byte_inputs.data() + byte_groups_ * kByteGroup;
  float* const steps = scratch.byte_steps.data() + byte_groups_;
  int32_t* const sums = scratch.byte_sums.data() + byte_groups_;
  byte_groups_ += pass_.n_tokens * n_groups;
  if (byte_groups_ > scratch.byte_steps.size()) {
    return failed("scratch memory is too small for the inputs of a job; this is a program error");
  }
  pass_.each_token([&](size_t t) {
    const size_t at = t * n_groups;
    pass_.table.quantize_bytes(job.inputs.x + t * cols, cols, bytes + at * kByteGroup, steps + at,
                               sums + at);
  });
  job.inputs.bytes = bytes;
  job.inputs.byte_steps = steps;
  job.inputs.byte_sums = sums;
  return {};
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

// Parts of products: those in memory run together with the next one of the stream, or before it,
// where that would have to be waited for.
class PartJobs {
 public:
  explicit PartJobs(Pass& pass) : pass_(pass) {}
  Status add(const ProductJob& job, const MatrixPart& part);
  void run();

 private:
  Pass& pass_;
  std::array<ProductJob, 8> jobs_;
  size_t n_ = 0;
  uint32_t step_ = MatrixPart::kAlwaysThere;  // of the stream, among the jobs
};

Status PartJobs::add(const ProductJob& job, const MatrixPart& part) {
  const bool is_streamed = part.step != MatrixPart::kAlwaysThere;
  if (n_ == jobs_.size() ||
      (is_streamed && (step_ != MatrixPart::kAlwaysThere || !pass_.stream->has(part.step)))) {
    run();
  }
  if (is_streamed) {
    RWKV_TRY(pass_.stream->await(part.step, pass_.traffic));
    step_ = part.step;
  }
  ProductJob& added = jobs_[n_++];
  added = job;
  added.w = part.view;
  added.y = job.y + part.first_row;
  return {};
}

void PartJobs::run() {
  run_jobs(pass_, std::span(jobs_).first(n_));
  n_ = 0;
  if (step_ != MatrixPart::kAlwaysThere) {
    pass_.stream->done(step_, pass_.traffic);
    step_ = MatrixPart::kAlwaysThere;
  }
}

}  // namespace

Status matmul_all(Pass& pass, std::span<const Product> products) {
  JobInputs inputs(pass);
  bool has_parts = false;
  for (const auto& [w, x, y] : products) {
    RWKV_ASSIGN(ProductJob* const job, inputs.add(w.codec, x, w.cols));
    job->fn = pass.table.matmul(w.codec);
    job->w = w;
    job->y = y;
    job->ldy = w.rows;
    has_parts = has_parts || !w.parts.empty();
  }
  const std::span<ProductJob> jobs = pass.scratch.jobs.first(products.size());
  if (!has_parts) {
    run_jobs(pass, jobs);
    return {};
  }
  PartJobs parts(pass);
  for (size_t i = 0; i < products.size(); ++i) {
    const std::span<const MatrixPart> of_product = products[i].w.parts;
    if (of_product.empty()) {
      RWKV_TRY(parts.add(jobs[i], MatrixPart{jobs[i].w}));
    }
    for (const MatrixPart& part : of_product) {
      RWKV_TRY(parts.add(jobs[i], part));
    }
  }
  parts.run();
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
    run_products(pass, n_cols, columns_at_a_time(pass, w.codec(), n_cols),
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

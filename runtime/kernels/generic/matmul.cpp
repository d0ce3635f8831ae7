// Products with matrices stored row by row, the same for every codec.
#include <algorithm>

#include "runtime/kernels/generic/rows.h"
#include "runtime/kernels/generic/tables.h"

namespace rwkv::edge::generic {
namespace {

// Tokens that share one decoding of a row.
constexpr size_t kTokens = 32;

template <typename Row>
float dot(const Row& row, const float* x, size_t n) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += row[i + lane] * x[i + lane];
    }
  }
  for (size_t lane = 0; i + lane < n; ++lane) {
    lanes[lane] += row[i + lane] * x[i + lane];
  }
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      lanes[lane] += lanes[lane + half];
    }
  }
  return lanes[0];
}

// The sum of a token's inputs, which rows with an offset need; the same order for every caller.
float sum_of(const float* x, size_t n) {
  float lanes[kLanes] = {};
  for (size_t i = 0; i < n; ++i) {
    lanes[i % kLanes] += x[i];
  }
  float sum = 0.0f;
  for (const float lane : lanes) {
    sum += lane;
  }
  return sum;
}

// A row that was decoded already.
struct DecodedRow {
  const float* at;
  float operator[](size_t i) const { return at[i]; }
};

template <typename Row>
void matmul_one(const MatrixView& w, const float* x, float* y, size_t row_begin, size_t row_end) {
  const float x_sum = Row::kNeedsSum ? sum_of(x, w.cols) : 0.0f;
  for (size_t r = row_begin; r < row_end; ++r) {
    const Row row(w, r);
    y[r] = row.finish(dot(row, x, w.cols), x_sum);
  }
}

// A row is decoded once and meets a few tokens at a time, whose sums fit on the stack.
template <typename Row>
void matmul_few(const MatrixView& w, const float* x, size_t n_tokens, float* y, size_t ldy,
                size_t row_begin, size_t row_end, float* scratch) {
  const size_t n = w.cols;
  float x_sums[kTokens];
  for (size_t t = 0; t < n_tokens; ++t) {
    x_sums[t] = Row::kNeedsSum ? sum_of(x + t * n, n) : 0.0f;
  }
  for (size_t r = row_begin; r < row_end; ++r) {
    const Row row(w, r);
    for (size_t i = 0; i < n; ++i) {
      scratch[i] = row[i];
    }
    for (size_t t = 0; t < n_tokens; ++t) {
      y[t * ldy + r] = row.finish(dot(DecodedRow{scratch}, x + t * n, n), x_sums[t]);
    }
  }
}

template <typename Row>
void matmul(const MatrixView& w, const float* x, size_t n_tokens, float* y, size_t ldy,
            size_t row_begin, size_t row_end, float* scratch) {
  if (n_tokens == 1) {
    matmul_one<Row>(w, x, y, row_begin, row_end);
    return;
  }
  for (size_t t = 0; t < n_tokens; t += kTokens) {
    matmul_few<Row>(w, x + t * w.cols, std::min(kTokens, n_tokens - t), y + t * ldy, ldy, row_begin,
                    row_end, scratch);
  }
}

}  // namespace

MatmulFn matmul_for(Codec codec) {
  switch (codec) {
    case Codec::F32:
      return matmul<RowF32>;
    case Codec::F16:
      return matmul<RowF16>;
    case Codec::I8Row:
      return matmul<RowI8>;
    case Codec::Mm8:
      return matmul<RowMm8>;
  }
  return nullptr;
}

}  // namespace rwkv::edge::generic

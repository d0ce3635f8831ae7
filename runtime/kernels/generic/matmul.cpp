// Products with matrices stored row by row, the same for every codec.
#include <algorithm>

#include "runtime/kernels/generic/rows.h"
#include "runtime/kernels/generic/tables.h"

namespace rwkv::edge::generic {
namespace {

// Tokens that share one decoding of a row.
constexpr size_t kTokens = 32;

float sum_of_lanes(float* lanes) {
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      lanes[lane] += lanes[lane + half];
    }
  }
  return lanes[0];
}

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
  return sum_of_lanes(lanes);
}

// One bit a number: a lane's bit is tested in place, which compilers turn into masks.
float dot(const RowSign& row, const float* x, size_t n) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const uint32_t bits = load_le<uint16_t>(row.at + i / 8);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += (bits & (1u << lane)) != 0 ? x[i + lane] : 0.0f;
    }
  }
  for (size_t lane = 0; i + lane < n; ++lane) {
    lanes[lane] += row[i + lane] * x[i + lane];
  }
  return sum_of_lanes(lanes);
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

template <typename Row, typename Rows>
void one_token(const Rows& rows, const float* x, float* y, size_t begin, size_t end) {
  const float x_sum = Row::kNeedsSum ? sum_of(x, rows.cols()) : 0.0f;
  for (size_t i = begin; i < end; ++i) {
    const Row row = rows.row(i);
    y[rows.id(i)] = row.finish(dot(row, x, rows.cols()), x_sum);
  }
}

// A row is decoded once and meets a few tokens at a time, whose sums fit on the stack.
template <typename Row, typename Rows>
void few_tokens(const Rows& rows, const float* x, size_t n_tokens, float* y, size_t ldy,
                size_t begin, size_t end, float* scratch) {
  const size_t n = rows.cols();
  float x_sums[kTokens];
  for (size_t t = 0; t < n_tokens; ++t) {
    x_sums[t] = Row::kNeedsSum ? sum_of(x + t * n, n) : 0.0f;
  }
  for (size_t i = begin; i < end; ++i) {
    const Row row = rows.row(i);
    for (size_t c = 0; c < n; ++c) {
      scratch[c] = row[c];
    }
    for (size_t t = 0; t < n_tokens; ++t) {
      y[t * ldy + rows.id(i)] = row.finish(dot(DecodedRow{scratch}, x + t * n, n), x_sums[t]);
    }
  }
}

template <typename Row, typename Rows>
void product(const Rows& rows, const float* x, size_t n_tokens, float* y, size_t ldy, size_t begin,
             size_t end, float* scratch) {
  if (n_tokens == 1) {
    one_token<Row>(rows, x, y, begin, end);
    return;
  }
  for (size_t t = 0; t < n_tokens; t += kTokens) {
    few_tokens<Row>(rows, x + t * rows.cols(), std::min(kTokens, n_tokens - t), y + t * ldy, ldy,
                    begin, end, scratch);
  }
}

template <typename Row>
void matmul(const MatrixView& w, const float* x, size_t n_tokens, float* y, size_t ldy,
            size_t row_begin, size_t row_end, float* scratch) {
  product<Row>(DenseRows<Row>{w}, x, n_tokens, y, ldy, row_begin, row_end, scratch);
}

template <typename Row>
void matmul_rows(const RowsView& w, const float* x, size_t n_tokens, float* y, size_t ldy,
                 size_t begin, size_t end, float* scratch) {
  product<Row>(GatheredRows<Row>{w}, x, n_tokens, y, ldy, begin, end, scratch);
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
    case Codec::SignRow:
      return matmul<RowSign>;
  }
  return nullptr;
}

MatmulRowsFn matmul_rows_for(Codec codec) {
  switch (codec) {
    case Codec::F32:
      return matmul_rows<RowF32>;
    case Codec::F16:
      return matmul_rows<RowF16>;
    case Codec::I8Row:
      return matmul_rows<RowI8>;
    case Codec::SignRow:
      return matmul_rows<RowSign>;
    case Codec::Mm8:
      break;  // its rows share vectors of the whole matrix
  }
  return nullptr;
}

}  // namespace rwkv::edge::generic

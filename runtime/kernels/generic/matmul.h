// Products with matrices stored row by row, the same for every codec.
#pragma once

#include <algorithm>

#include "runtime/kernels/generic/rows.h"

namespace rwkv::edge::generic {
namespace {

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

// Products of whole numbers; 512 of them fit 32 bits, and they are exact in any order.
template <typename Row>
int64_t whole_dot(const Row& row, const int16_t* q, size_t n) {
  constexpr size_t kPart = 512;
  int64_t total = 0;
  for (size_t begin = 0; begin < n; begin += kPart) {
    const size_t end = std::min(n, begin + kPart);
    int32_t sum = 0;
    for (size_t i = begin; i < end; ++i) {
      sum += row.whole(i) * q[i];
    }
    total += sum;
  }
  return total;
}

// A row that was decoded already.
struct DecodedRow {
  const float* at;
  float operator[](size_t i) const { return at[i]; }
};

template <typename Row, typename Rows>
void product(const Rows& rows, const Inputs& x, float* y, size_t ldy, size_t begin, size_t end,
             float* scratch) {
  const size_t n = x.cols;
  for (size_t i = begin; i < end; ++i) {
    const Row row = rows.row(i);
    float* to = y + rows.id(i);
    if constexpr (requires { row.whole(0); }) {
      const size_t ldq = padded_cols(n);
      for (size_t t = 0; t < x.n_tokens; ++t) {
        const float sum = x.step[t] * static_cast<float>(whole_dot(row, x.q + t * ldq, n));
        to[t * ldy] = row.scale() * sum + row.offset() * x.sum[t];
      }
    } else if (x.n_tokens == 1) {
      *to = dot(row, x.x, n);
    } else {
      // Decoded once for all tokens.
      for (size_t c = 0; c < n; ++c) {
        scratch[c] = row[c];
      }
      for (size_t t = 0; t < x.n_tokens; ++t) {
        to[t * ldy] = dot(DecodedRow{scratch}, x.x + t * n, n);
      }
    }
  }
}

template <typename Row>
void matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
            size_t row_end, float* scratch) {
  product<Row>(DenseRows<Row>{w}, x, y, ldy, row_begin, row_end, scratch);
}

template <typename Row>
void matmul_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy, size_t begin, size_t end,
                 float* scratch) {
  product<Row>(GatheredRows<Row>{w}, x, y, ldy, begin, end, scratch);
}

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
      return matmul_rows<RowMm8>;
  }
  return nullptr;
}

}  // namespace
}  // namespace rwkv::edge::generic

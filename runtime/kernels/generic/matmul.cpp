// Products with matrices stored row by row, the same for every codec.
#include "runtime/kernels/generic/rows.h"
#include "runtime/kernels/generic/tables.h"

namespace rwkv::edge::generic {
namespace {

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

// A row that was decoded already.
struct DecodedRow {
  const float* at;
  float operator[](size_t i) const { return at[i]; }
};

template <typename Row>
void matmul(const MatrixView& w, const float* x, size_t n_tokens, float* y, size_t ldy,
            size_t row_begin, size_t row_end, float* scratch) {
  const size_t n = w.cols;
  for (size_t r = row_begin; r < row_end; ++r) {
    const Row row(w, r);
    if (n_tokens == 1) {
      y[r] = row.finish(dot(row, x, n));
      continue;
    }
    for (size_t i = 0; i < n; ++i) {
      scratch[i] = row[i];
    }
    for (size_t t = 0; t < n_tokens; ++t) {
      y[t * ldy + r] = row.finish(dot(DecodedRow{scratch}, x + t * n, n));
    }
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

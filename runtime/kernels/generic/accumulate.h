// Products with matrices packed transposed: scaled rows are added up, rows with a zero factor are
// skipped.
#pragma once

#include <algorithm>

#include "runtime/kernels/generic/rows.h"

namespace rwkv::edge::generic {
namespace {

bool all_zero(const float* a, size_t n_tokens, size_t stride) {
  for (size_t t = 0; t < n_tokens; ++t) {
    if (a[t * stride] != 0.0f) {
      return false;
    }
  }
  return true;
}

template <typename Rows>
void add_rows(const Rows& rows, size_t n_rows, const float* a, size_t lda, size_t n_tokens,
              float* y, size_t ldy, size_t col_begin, size_t col_end, float* scratch) {
  for (size_t i = 0; i < n_rows; ++i) {
    const size_t id = rows.id(i);
    if (all_zero(a + id, n_tokens, lda)) {
      continue;
    }
    const auto row = rows.row(i);
    for (size_t c = col_begin; c < col_end; ++c) {
      scratch[c] = row[c];
    }
    for (size_t t = 0; t < n_tokens; ++t) {
      const float factor = a[t * lda + id] * row.scale();
      float* out = y + t * ldy;
      for (size_t c = col_begin; c < col_end; ++c) {
        out[c] += factor * scratch[c];
      }
    }
  }
}

template <typename Row>
void accumulate_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                     double* bias, size_t col_begin, size_t col_end, float* scratch) {
  const GatheredRows<Row> rows{w};
  add_rows(rows, w.n, a, lda, n_tokens, y, w.cols, col_begin, col_end, scratch);
  for (size_t i = 0; i < w.n && col_begin == 0; ++i) {
    const auto offset = static_cast<double>(rows.row(i).offset());
    for (size_t t = 0; t < n_tokens; ++t) {
      bias[t] += static_cast<double>(a[t * lda + rows.id(i)]) * offset;
    }
  }
}

AccumulateRowsFn accumulate_rows_for(Codec codec) {
  switch (codec) {
    case Codec::F32:
      return accumulate_rows<RowF32>;
    case Codec::F16:
      return accumulate_rows<RowF16>;
    case Codec::I8Row:
      return accumulate_rows<RowI8>;
    case Codec::SignRow:
      return accumulate_rows<RowSign>;
    case Codec::Mm8:
      return accumulate_rows<RowMm8>;
  }
  return nullptr;
}

}  // namespace
}  // namespace rwkv::edge::generic

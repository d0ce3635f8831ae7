// Products with matrices packed transposed: scaled rows are added up, rows with a zero factor are
// skipped unread.
#include <algorithm>

#include "runtime/kernels/generic/rows.h"
#include "runtime/kernels/generic/tables.h"

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

template <typename Row>
void accumulate(const MatrixView& w, const float* a, size_t n_tokens, float* y, size_t col_begin,
                size_t col_end, float* scratch) {
  for (size_t t = 0; t < n_tokens; ++t) {
    std::fill(y + t * w.cols + col_begin, y + t * w.cols + col_end, 0.0f);
  }
  for (size_t r = 0; r < w.rows; ++r) {
    if (all_zero(a + r, n_tokens, w.rows)) {
      continue;
    }
    const Row row(w, r);
    for (size_t c = col_begin; c < col_end; ++c) {
      scratch[c] = row.value(c);
    }
    for (size_t t = 0; t < n_tokens; ++t) {
      const float factor = a[t * w.rows + r];
      if (factor == 0.0f) {
        continue;
      }
      float* out = y + t * w.cols;
      for (size_t c = col_begin; c < col_end; ++c) {
        out[c] += factor * scratch[c];
      }
    }
  }
}

}  // namespace

AccumulateFn accumulate_for(Codec codec) {
  switch (codec) {
    case Codec::F32:
      return accumulate<RowF32>;
    case Codec::F16:
      return accumulate<RowF16>;
    case Codec::I8Row:
      return accumulate<RowI8>;
    case Codec::Mm8:
      return accumulate<RowMm8>;
  }
  return nullptr;
}

}  // namespace rwkv::edge::generic

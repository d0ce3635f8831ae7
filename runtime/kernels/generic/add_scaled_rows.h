// Products with matrices packed transposed: scaled rows are added up, rows with a zero factor are
// skipped.
#pragma once

#include "runtime/kernels/loops/biases.h"

namespace rwkv::edge::generic {
namespace {

inline bool all_zero(const float* a, size_t n_tokens, size_t stride) {
  for (size_t t = 0; t < n_tokens; ++t) {
    if (a[t * stride] != 0.0f) {
      return false;
    }
  }
  return true;
}

template <class Format>
void add_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
              size_t col_begin, size_t col_end) {
  for (size_t i = 0; i < w.n; ++i) {
    const float* const factors = a + w.ids[i];
    if (all_zero(factors, n_tokens, lda)) {
      continue;
    }
    const RowPlace row = {w.shared, w.rows[i], 0, w.cols};
    each_part<Format>(col_begin, col_end, w.cols,
                      [&](size_t group, size_t begin, size_t end, bool) {
                        RowCode<Format> codes[kUnpackedCols];
                        read_codes<Format>(row, begin, end - begin, codes);
                        const float scale = Format::affine(row, group).scale;
                        for (size_t t = 0; t < n_tokens; ++t) {
                          const float factor = factors[t * lda] * scale;
                          float* const to = y + t * w.cols;
                          for (size_t c = begin; c < end; ++c) {
                            to[c] += factor * static_cast<float>(codes[c - begin]);
                          }
                        }
                      });
  }
}

template <Codec C>
void add_scaled_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                     double* bias, size_t col_begin, size_t col_end) {
  add_rows<RowFormat<C>>(w, a, lda, n_tokens, y, col_begin, col_end);
  add_offsets<RowFormat<C>>(w, a, lda, n_tokens, bias, col_begin, col_end);
}

}  // namespace
}  // namespace rwkv::edge::generic

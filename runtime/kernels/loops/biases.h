// What the offsets of rows add to sums of scaled rows.
#pragma once

#include "runtime/kernels/loops/rows.h"

namespace rwkv::edge {
namespace {

// To the groups that begin in [col_begin, col_end).
template <class Format>
inline void add_offsets(const RowsView& w, const float* a, size_t lda, size_t n_tokens,
                        double* bias, size_t col_begin, size_t col_end) {
  if constexpr (Format::kInputs != InputForm::Floats && Format::kInputs != InputForm::ByteGroups) {
    const size_t group = group_cols<Format>(w.cols);
    const size_t n_groups = (w.cols + group - 1) / group;
    const size_t first = (col_begin + group - 1) / group;
    for (size_t i = 0; i < w.n && first * group < col_end; ++i) {
      const RowPlace row = {w.shared, w.rows[i], 0, w.cols};
      for (size_t g = first; g * group < col_end; ++g) {
        const auto offset = static_cast<double>(Format::affine(row, g).offset);
        for (size_t t = 0; t < n_tokens; ++t) {
          bias[t * n_groups + g] += static_cast<double>(a[t * lda + w.ids[i]]) * offset;
        }
      }
    }
  }
}

}  // namespace
}  // namespace rwkv::edge

// Products with single rows of lut codecs, and sums of them scaled, for sets with vector registers:
// the bits of loops/lut_rows.h. Besides what lut_tiles.h says, of `L`:
//   columns<bits>()   values of 64 columns in their order, in 16 / kLanes registers
//   line_dot()        products of such a register and its inputs, four of them in a lane
//   sum_of_lanes()    the sum of 16 lanes in the order of sum_of_lut_lanes()
//   floats()          a register of values as four of floats
//   kAddedRows        rows that are added together
#pragma once

#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/rows.h"
#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <class L>
inline constexpr size_t kLineParts = kLutLanes / L::kLanes;

template <class L, class Format>
[[gnu::always_inline]] inline float lut_line(const RowPlace& row, const typename L::Table& table,
                                             const Inputs& x, size_t token) {
  constexpr size_t kParts = kLineParts<L>;
  constexpr size_t kPieceBytes = lut_piece_bytes(Format::kKind);
  const size_t n_groups = n_byte_groups(x.cols);
  const int8_t* inputs = x.bytes + token * n_groups * kByteGroup;
  const float* const steps = x.byte_steps + token * n_groups;
  typename L::F sums[kParts];
  for (size_t p = 0; p < kParts; ++p) {
    sums[p] = L::no_sum();
  }
  const std::byte* codes = row.unit + lut_row_header(row.cols, Format::kKind.group);
  for (size_t g = 0; g < n_groups; ++g, codes += kPieceBytes, inputs += kByteGroup) {
    typename L::V values[kParts];
    L::template columns<Format::kKind.bits>(codes, table, values);
    const float factor = static_cast<float>(Format::group_scale(row, g)) * steps[g];
#pragma GCC unroll 4
    for (size_t p = 0; p < kParts; ++p) {
      sums[p] = L::add_product(sums[p], L::line_dot(values[p], inputs + p * 4 * L::kLanes), factor);
    }
  }
  return Format::row_scale(row) * L::sum_of_lanes(sums);
}

template <class L, Codec C>
void lut_matmul_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                     size_t end) {
  using Format = RowFormat<C>;
  const GatheredRows<RowOrder::Scattered> rows{w};
  const typename L::Table table = L::template table<Format::kKind.bits>(w.shared);
  const size_t row_bytes = lut_unit_bytes(Format::kKind, x.cols);
  for (size_t i = begin; i < end; ++i) {
    for (size_t line = 0; line < row_bytes; line += kCacheLine) {
      __builtin_prefetch(rows.ahead(i) + line);
    }
    const RowPlace row = rows.place(i);
    for (size_t t = 0; t < x.n_tokens; ++t) {
      y[t * ldy + w.ids[i]] = lut_line<L, Format>(row, table, x, t);
    }
  }
}

/// Whole pieces [begin, end) of R rows, added in their order.
template <class L, class Format, size_t R>
[[gnu::noinline]] void add_lut_lines(const RowsView& w, const typename L::Table& table,
                                     const float* a, size_t lda, size_t n_tokens, size_t first,
                                     float* y, size_t begin, size_t end) {
  using F = typename L::F;
  constexpr size_t kParts = kLineParts<L>;
  constexpr size_t kFloatsOfPart = 4;
  constexpr size_t kPieceBytes = lut_piece_bytes(Format::kKind);
  const GatheredRows<RowOrder::Scattered> rows{w};
  for (size_t piece = begin; piece < end; ++piece) {
    typename L::V values[R][kParts];
    float scales[R];
#pragma GCC unroll 4
    for (size_t r = 0; r < R; ++r) {
      const RowPlace row = rows.place(first + r);
      const std::byte* const codes = row.unit + lut_codes_at(Format::kKind, w.cols, piece);
      if (piece * kPieceBytes % kCacheLine < kPieceBytes) {
        __builtin_prefetch(rows.ahead(first + r) + (codes - row.unit), 0, 2);
      }
      L::template columns<Format::kKind.bits>(codes, table, values[r]);
      scales[r] = Format::affine(row, piece).scale;
    }
    for (size_t p = 0; p < kParts; ++p) {
      F floats[R][kFloatsOfPart];
#pragma GCC unroll 4
      for (size_t r = 0; r < R; ++r) {
        L::floats(values[r][p], floats[r]);
      }
      for (size_t t = 0; t < n_tokens; ++t) {
        float* const to = y + t * w.cols + piece * kLutCols + p * 4 * L::kLanes;
        float factors[R];
#pragma GCC unroll 4
        for (size_t r = 0; r < R; ++r) {
          factors[r] = a[t * lda + w.ids[first + r]] * scales[r];
        }
#pragma GCC unroll 4
        for (size_t f = 0; f < kFloatsOfPart; ++f) {
          F sum = L::load_floats(to + f * L::kLanes);
#pragma GCC unroll 4
          for (size_t r = 0; r < R; ++r) {
            sum = L::add_floats(sum, floats[r][f], factors[r]);
          }
          L::store_floats(to + f * L::kLanes, sum);
        }
      }
    }
  }
}

template <class L, Codec C>
void lut_add_scaled_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                         double* bias, size_t col_begin, size_t col_end) {
  using Format = RowFormat<C>;
  // Columns of pieces that only partly belong to the range are left to the generic set.
  const AddScaledRowsFn others = generic::kernel_set.add_scaled_rows(C);
  const size_t begin = (col_begin + kLutCols - 1) / kLutCols;
  const size_t end = col_end / kLutCols;
  if (begin >= end || w.n == 0) {
    others(w, a, lda, n_tokens, y, bias, col_begin, col_end);
    return;
  }
  if (col_begin < begin * kLutCols) {
    others(w, a, lda, n_tokens, y, bias, col_begin, begin * kLutCols);
  }
  if (end * kLutCols < col_end) {
    others(w, a, lda, n_tokens, y, bias, end * kLutCols, col_end);
  }
  const typename L::Table table = L::template table<Format::kKind.bits>(w.shared);
  size_t i = 0;
  for (; i + L::kAddedRows <= w.n; i += L::kAddedRows) {
    add_lut_lines<L, Format, L::kAddedRows>(w, table, a, lda, n_tokens, i, y, begin, end);
  }
  for (; i < w.n; ++i) {
    add_lut_lines<L, Format, 1>(w, table, a, lda, n_tokens, i, y, begin, end);
  }
}

}  // namespace
}  // namespace rwkv::edge

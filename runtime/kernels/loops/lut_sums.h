// Sums of scaled rows of lut codecs, for sets with vector registers: the bits of loops/lut_rows.h.
// A product of a short factor and a value is exact, so it may be fused with its addition or looked
// up in a table of products. Of `L`, besides what lut_lines.h says:
//   kSums             registers of floats that hold 64 columns
//   kSumsOfMany       as many of them as have the sums of several tokens in registers
//   SumTable, sum_table<bits>()  the values of codes for line()
//   line<bits>()      64 values as floats, in kSums registers
//   add_line<bits>()  sums += factor * value; one factor
#pragma once

#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/rows.h"
#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

// Rows that are added together to one token, and pieces of 64 columns whose factors are computed
// together.
constexpr size_t kLinesTogether = 8;
constexpr size_t kPiecesTogether = 16;
// Several tokens share decoded rows, this many of them; four tokens at a time have their sums in
// registers.
constexpr size_t kSharedLines = 96;
constexpr size_t kSharingTokens = 4;
constexpr size_t kSharingGroups = 8;

template <class Format>
inline constexpr size_t kPieceGroups = kLutCols / Format::kGroup;

/// What the values of `n` groups are multiplied with.
inline void factors_of(const std::byte* scales, float row_scale, float a, size_t n,
                       float* factors) {
  for (size_t i = 0; i < n; ++i) {
    const float scale = row_scale * static_cast<float>(static_cast<int8_t>(scales[i]));
    factors[i] = short_factor(a * scale);
  }
}

/// Pieces [begin, end) of `n_rows` rows, at most kLinesTogether, from `first` on, added in their
/// order to one token.
template <class L, class Format>
[[gnu::noinline]] void add_lines(const RowsView& w, const float* a, size_t first, size_t n_rows,
                                 float* y, size_t begin, size_t end) {
  constexpr unsigned kBits = Format::kKind.bits;
  constexpr size_t kPieceBytes = lut_piece_bytes(Format::kKind);
  constexpr size_t kGroups = kPieceGroups<Format>;
  const GatheredRows<RowOrder::Scattered> rows{w};
  const auto table = L::template sum_table<kBits>(w.shared);
  for (size_t block = begin; block < end; block += kPiecesTogether) {
    const size_t n = end - block < kPiecesTogether ? end - block : kPiecesTogether;
    const size_t at = lut_codes_at(Format::kKind, w.cols, block);
    float factors[kLinesTogether][kPiecesTogether * kGroups];
    const std::byte* codes[kLinesTogether];
    const std::byte* next[kLinesTogether];
    for (size_t r = 0; r < n_rows; ++r) {
      const RowPlace row = rows.place(first + r);
      // Of a whole block, for a loop of known length, even if fewer pieces are left: then codes of
      // the row follow its scales, and what they give is not used.
      const size_t n_factors =
          kPieceBytes < kPiecesTogether * kGroups ? n * kGroups : kPiecesTogether;
      factors_of(row.unit + lut_scale_at(Format::kKind, block * kGroups), Format::row_scale(row),
                 a[w.ids[first + r]], n_factors, factors[r]);
      codes[r] = row.unit + at;
      const size_t after = first + 2 * kLinesTogether + r;
      next[r] = w.rows[after < w.n ? after : first + r];
      __builtin_prefetch(next[r], 0, 2);
      next[r] += at + kPieceBytes - 1;
    }
    for (size_t k = 0; k < n; ++k) {
      float* const to = y + (block + k) * kLutCols;
      typename L::F sums[L::kSums];
#pragma GCC unroll 16
      for (size_t i = 0; i < L::kSums; ++i) {
        sums[i] = L::load_floats(to + i * L::kLanes);
      }
      // Lines of rows to come, once each.
      for (size_t r = 0; k * kPieceBytes % kCacheLine < kPieceBytes && r < n_rows; ++r) {
        __builtin_prefetch(next[r] + k * kPieceBytes, 0, 2);
      }
      for (size_t r = 0; r < n_rows; ++r) {
        L::template add_line<kBits, kGroups>(codes[r] + k * kPieceBytes, table,
                                             factors[r] + k * kGroups, sums);
      }
#pragma GCC unroll 16
      for (size_t i = 0; i < L::kSums; ++i) {
        L::store_floats(to + i * L::kLanes, sums[i]);
      }
    }
  }
}

/// Of the rows that tokens share, those that count for any of four tokens.
struct SharingTokens {
  size_t n;
  uint16_t rows[kSharedLines];
  float a[kSharedLines][kSharingTokens];
};

[[gnu::noinline, maybe_unused]] void find_rows(const RowsView& w, size_t first, size_t n,
                                               const float* a, size_t lda, SharingTokens& tokens) {
  tokens.n = 0;
  for (size_t r = 0; r < n; ++r) {
    const float* const of_row = a + w.ids[first + r];
    bool counts = false;
    for (size_t t = 0; t < kSharingTokens; ++t) {
      tokens.a[tokens.n][t] = of_row[t * lda];
      counts = counts || of_row[t * lda] != 0.0f;
    }
    tokens.rows[tokens.n] = static_cast<uint16_t>(r);
    tokens.n += counts ? 1 : 0;
  }
}

using SharedLines = float[kSharedLines][kLutCols];

/// Columns [col, col + kCols) of a piece of four tokens: y += what the rows give.
template <class L, size_t kCols>
[[gnu::noinline]] void add_to_four(const SharingTokens& tokens, const float* scales,
                                   const SharedLines& lines, size_t col, float* y, size_t ldy) {
  constexpr size_t kSums = L::kSumsOfMany * L::kLanes < kCols ? L::kSumsOfMany : kCols / L::kLanes;
  float factors[kSharedLines][kSharingTokens];
  for (size_t r = 0; r < tokens.n; ++r) {
    const float scale = scales[tokens.rows[r]];
    for (size_t t = 0; t < kSharingTokens; ++t) {
      factors[r][t] = short_factor(tokens.a[r][t] * scale);
    }
  }
  for (size_t c = col; c < col + kCols; c += kSums * L::kLanes) {
    typename L::F sums[kSharingTokens][kSums];
#pragma GCC unroll 8
    for (size_t t = 0; t < kSharingTokens; ++t) {
#pragma GCC unroll 8
      for (size_t i = 0; i < kSums; ++i) {
        sums[t][i] = L::load_floats(y + t * ldy + c + i * L::kLanes);
      }
    }
    for (size_t r = 0; r < tokens.n; ++r) {
      const float* const line = lines[tokens.rows[r]] + c;
      typename L::F values[kSums];
#pragma GCC unroll 8
      for (size_t i = 0; i < kSums; ++i) {
        values[i] = L::load_floats(line + i * L::kLanes);
      }
#pragma GCC unroll 8
      for (size_t t = 0; t < kSharingTokens; ++t) {
        const typename L::F factor = L::all(factors[r][t]);
#pragma GCC unroll 8
        for (size_t i = 0; i < kSums; ++i) {
          sums[t][i] = L::fma(factor, values[i], sums[t][i]);
        }
      }
    }
#pragma GCC unroll 8
    for (size_t t = 0; t < kSharingTokens; ++t) {
#pragma GCC unroll 8
      for (size_t i = 0; i < kSums; ++i) {
        L::store_floats(y + t * ldy + c + i * L::kLanes, sums[t][i]);
      }
    }
  }
}

/// At most kSharedLines rows from `first` on, for `n_groups` times four tokens; a and y are those
/// of the first of them.
template <class L, class Format>
[[gnu::noinline]] void add_shared_lines(const RowsView& w, size_t first, const float* a, size_t lda,
                                        size_t n_groups, float* y, size_t begin, size_t end) {
  constexpr unsigned kBits = Format::kKind.bits;
  const GatheredRows<RowOrder::Scattered> rows{w};
  const auto table = L::template sum_table<kBits>(w.shared);
  const size_t n = w.n - first < kSharedLines ? w.n - first : kSharedLines;
  SharingTokens tokens[kSharingGroups];
  for (size_t g = 0; g < n_groups; ++g) {
    find_rows(w, first, n, a + g * kSharingTokens * lda, lda, tokens[g]);
  }
  for (size_t piece = begin; piece < end; ++piece) {
    SharedLines lines;
    float scales[kPieceGroups<Format>][kSharedLines];
    for (size_t r = 0; r < n; ++r) {
      const RowPlace row = rows.place(first + r);
      typename L::F values[L::kSums];
      L::template line<kBits>(row.unit + lut_codes_at(Format::kKind, w.cols, piece), table, values);
#pragma GCC unroll 16
      for (size_t i = 0; i < L::kSums; ++i) {
        L::store_floats(lines[r] + i * L::kLanes, values[i]);
      }
      for (size_t i = 0; i < kPieceGroups<Format>; ++i) {
        scales[i][r] = Format::affine(row, piece * kPieceGroups<Format> + i).scale;
      }
    }
    for (size_t g = 0; g < n_groups; ++g) {
      for (size_t i = 0; i < kPieceGroups<Format>; ++i) {
        add_to_four<L, Format::kGroup>(tokens[g], scales[i], lines, i * Format::kGroup,
                                       y + g * kSharingTokens * w.cols + piece * kLutCols, w.cols);
      }
    }
  }
}

/// What differs between codecs.
struct LutSums {
  void (*add_lines)(const RowsView& w, const float* a, size_t first, size_t n_rows, float* y,
                    size_t begin, size_t end);
  void (*add_shared_lines)(const RowsView& w, size_t first, const float* a, size_t lda,
                           size_t n_groups, float* y, size_t begin, size_t end);
};

/// Whole pieces [begin, end) of all rows.
[[gnu::noinline, maybe_unused]] void add_whole_pieces(const LutSums& sums, const RowsView& w,
                                                      const float* a, size_t lda, size_t n_tokens,
                                                      float* y, size_t begin, size_t end) {
  constexpr size_t kMost = kSharingGroups * kSharingTokens;
  const size_t n_sharing = n_tokens / kSharingTokens * kSharingTokens;
  for (size_t t = 0; t < n_sharing; t += kMost) {
    const size_t left = n_sharing - t < kMost ? n_sharing - t : kMost;
    for (size_t i = 0; i < w.n; i += kSharedLines) {
      sums.add_shared_lines(w, i, a + t * lda, lda, left / kSharingTokens, y + t * w.cols, begin,
                            end);
    }
  }
  for (size_t t = n_sharing; t < n_tokens; ++t) {
    for (size_t i = 0; i < w.n; i += kLinesTogether) {
      const size_t n = w.n - i < kLinesTogether ? w.n - i : kLinesTogether;
      sums.add_lines(w, a + t * lda, i, n, y + t * w.cols, begin, end);
    }
  }
}

/// Columns of pieces that only partly belong to the range are left to the generic set.
[[gnu::noinline, maybe_unused]] void add_pieces(const LutSums& sums, const RowsView& w,
                                                const float* a, size_t lda, size_t n_tokens,
                                                float* y, double* bias, size_t col_begin,
                                                size_t col_end) {
  const AddScaledRowsFn others = generic::kernel_set.add_scaled_rows(w.codec);
  const size_t begin = (col_begin + kLutCols - 1) / kLutCols;
  const size_t end = col_end / kLutCols;
  if (begin >= end) {
    others(w, a, lda, n_tokens, y, bias, col_begin, col_end);
    return;
  }
  others(w, a, lda, n_tokens, y, bias, col_begin, begin * kLutCols);
  others(w, a, lda, n_tokens, y, bias, end * kLutCols, col_end);
  add_whole_pieces(sums, w, a, lda, n_tokens, y, begin, end);
}

template <class L, Codec C>
void lut_add_scaled_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                         double* bias, size_t col_begin, size_t col_end) {
  using Format = RowFormat<C>;
  static constexpr LutSums kFunctions = {add_lines<L, Format>, add_shared_lines<L, Format>};
  add_pieces(kFunctions, w, a, lda, n_tokens, y, bias, col_begin, col_end);
}

}  // namespace
}  // namespace rwkv::edge

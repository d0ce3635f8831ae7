// Sums of scaled rows, for every set with vector registers. `S` is the set's Simd. A column is one
// chain of fused multiply-adds in the order of the rows, however rows and tokens are grouped.
#pragma once

#include "runtime/kernels/loops/biases.h"
#include "runtime/kernels/loops/unpacked.h"

namespace rwkv::edge {
namespace {

// With many tokens: how many tokens and how many registers of columns have their sums in registers,
// and over how many rows, which are decoded once for several groups of tokens.
constexpr size_t kSummedTokens = 4;
constexpr size_t kSummedFloats = 3;
constexpr size_t kSummedRows = 192;
constexpr size_t kTokenGroups = 8;

// y[c] += sum_r factors[r] * codes of row r, columns [begin, end) of one token. `next` are rows to
// come.
template <class S, Element kElement, size_t R>
inline void add_rows(const std::byte* const (&codes)[R], const float (&factors)[R], float* y,
                     size_t begin, size_t end, const std::byte* const (&next)[R]) {
  typename S::F scaled[R];
  for (size_t r = 0; r < R; ++r) {
    scaled[r] = S::all(factors[r]);
  }
  constexpr size_t kBytes = bytes_of(kElement, 1);
  const auto add = [&](const std::byte* const(&from)[R], size_t i, float* to)
      __attribute__((always_inline)) {
    typename S::F sum = S::load(to);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      sum = S::fma(scaled[r], S::template floats<kElement>(from[r] + i * kBytes), sum);
    }
    S::store(to, sum);
  };
  constexpr size_t kPerLine = kCacheLine / kBytes;
  size_t c = begin;
  for (; c + kPerLine <= end; c += kPerLine) {
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      __builtin_prefetch(next[r] + c * kBytes, 0, 2);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < kPerLine; i += S::kFloats) {
      add(codes, c + i, y + c + i);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < R; ++r) {
    __builtin_prefetch(next[r] + c * kBytes, 0, 2);
    __builtin_prefetch(next[r] + end * kBytes, 0, 2);
  }
  for (; c + S::kFloats <= end; c += S::kFloats) {
    add(codes, c, y + c);
  }
  if (c < end) {
    std::byte rest[R][S::kFloats * kBytes] = {};
    float sums[S::kFloats] = {};
    const std::byte* at[R];
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(rest[r], codes[r] + c * kBytes, (end - c) * kBytes);
      at[r] = rest[r];
    }
    std::memcpy(sums, y + c, (end - c) * sizeof(float));
    add(at, 0, sums);
    std::memcpy(y + c, sums, (end - c) * sizeof(float));
  }
}

template <class S, class Format, size_t R>
inline void rows_of_one(const RowsView& w, const float* a, size_t i, float* y, size_t begin,
                        size_t end) {
  const GatheredRows<RowOrder::Scattered> rows{w};
  const std::byte* codes[R];
  const std::byte* next[R];
  float factors[R];
  for (size_t r = 0; r < R; ++r) {
    const Row row = row_of<Format>(rows.place(i + r));
    codes[r] = row.codes;
    factors[r] = a[w.ids[i + r]] * row.affine.scale;
    next[r] = w.rows[i + 2 * R + r < w.n ? i + 2 * R + r : i + r];
  }
  add_rows<S, Format::kElement, R>(codes, factors, y, begin, end, next);
}

// Of decoded rows, those that count for any of a group's tokens, and how much.
struct TokenGroup {
  size_t n;
  uint16_t rows[kSummedRows];
  float factors[kSummedRows][kSummedTokens];
};

// Columns of rows as floats, `kSummedFloats` registers wide.
template <class S>
struct DecodedRows {
  static constexpr size_t kWidth = kSummedFloats * S::kFloats;
  float codes[kSummedRows][kWidth];
};

inline void fill_group(const RowsView& w, const Row* rows, size_t n_rows, size_t first_row,
                       const float* a, size_t lda, TokenGroup& group) {
  group.n = 0;
  for (size_t r = 0; r < n_rows; ++r) {
    const float* of_row = a + w.ids[first_row + r];
    bool counts = false;
    for (size_t t = 0; t < kSummedTokens; ++t) {
      const float factor = of_row[t * lda];
      counts = counts || factor != 0.0f;
      group.factors[group.n][t] = factor * rows[r].affine.scale;
    }
    group.rows[group.n] = static_cast<uint16_t>(r);
    group.n += counts ? 1 : 0;
  }
}

// y[t][0..F registers) += what the group's rows give.
template <class S, size_t F>
[[gnu::noinline]] void add_group(const TokenGroup& group, const DecodedRows<S>& decoded, float* y,
                                 size_t ldy) {
  typename S::F sums[kSummedTokens][F];
#pragma GCC unroll 8
  for (size_t t = 0; t < kSummedTokens; ++t) {
#pragma GCC unroll 8
    for (size_t f = 0; f < F; ++f) {
      sums[t][f] = S::load(y + t * ldy + f * S::kFloats);
    }
  }
  for (size_t r = 0; r < group.n; ++r) {
    const float* from = decoded.codes[group.rows[r]];
    typename S::F codes[F];
#pragma GCC unroll 8
    for (size_t f = 0; f < F; ++f) {
      codes[f] = S::load(from + f * S::kFloats);
    }
#pragma GCC unroll 8
    for (size_t t = 0; t < kSummedTokens; ++t) {
      const typename S::F factor = S::all(group.factors[r][t]);
#pragma GCC unroll 8
      for (size_t f = 0; f < F; ++f) {
        sums[t][f] = S::fma(factor, codes[f], sums[t][f]);
      }
    }
  }
#pragma GCC unroll 8
  for (size_t t = 0; t < kSummedTokens; ++t) {
#pragma GCC unroll 8
    for (size_t f = 0; f < F; ++f) {
      S::store(y + t * ldy + f * S::kFloats, sums[t][f]);
    }
  }
}

// One strip of F registers of columns from c on: its rows decoded, then every group.
template <class S, Element kElement, size_t F>
inline void add_strip(const Row* rows, size_t n_rows, size_t c, const TokenGroup* groups,
                      size_t n_groups, DecodedRows<S>& decoded, float* y, size_t ldy) {
  constexpr size_t kBytes = bytes_of(kElement, 1);
  for (size_t r = 0; r < n_rows; ++r) {
    const std::byte* from = rows[r].codes + c * kBytes;
    for (size_t f = 0; f < F; ++f) {
      S::store(decoded.codes[r] + f * S::kFloats,
               S::template floats<kElement>(from + f * S::kFloats * kBytes));
    }
  }
  for (size_t g = 0; g < n_groups; ++g) {
    add_group<S, F>(groups[g], decoded, y + g * kSummedTokens * ldy + c, ldy);
  }
}

// At most kSummedRows rows from `first_row` on, for `n_groups` groups of tokens; a and y are those
// of the first of them.
template <class S, class Format>
inline void add_to_groups(const RowsView& w, size_t first_row, const float* a, size_t lda,
                          size_t n_groups, float* y, size_t begin, size_t end) {
  constexpr Element kElement = Format::kElement;
  const GatheredRows<RowOrder::Scattered> gathered{w};
  Row rows[kSummedRows];
  TokenGroup groups[kTokenGroups];
  DecodedRows<S> decoded;
  const size_t left = w.n - first_row;
  const size_t n_rows = left < kSummedRows ? left : kSummedRows;
  for (size_t r = 0; r < n_rows; ++r) {
    rows[r] = row_of<Format>(gathered.place(first_row + r));
  }
  for (size_t g = 0; g < n_groups; ++g) {
    fill_group(w, rows, n_rows, first_row, a + g * kSummedTokens * lda, lda, groups[g]);
  }
  size_t c = begin;
  for (; c + DecodedRows<S>::kWidth <= end; c += DecodedRows<S>::kWidth) {
    add_strip<S, kElement, kSummedFloats>(rows, n_rows, c, groups, n_groups, decoded, y, w.cols);
  }
  for (; c + S::kFloats <= end; c += S::kFloats) {
    add_strip<S, kElement, 1>(rows, n_rows, c, groups, n_groups, decoded, y, w.cols);
  }
  for (size_t g = 0; g < n_groups && c < end; ++g) {
    for (size_t r = 0; r < groups[g].n; ++r) {
      const std::byte* const codes[] = {rows[groups[g].rows[r]].codes};
      for (size_t t = 0; t < kSummedTokens; ++t) {
        const float factor[] = {groups[g].factors[r][t]};
        add_rows<S, kElement, 1>(codes, factor, y + (g * kSummedTokens + t) * w.cols, c, end,
                                 codes);
      }
    }
  }
}

// Of eight rows together the rest may be four.
template <class S, class Format>
inline void all_rows_of_one(const RowsView& w, const float* a, float* y, size_t begin, size_t end) {
  size_t i = 0;
  constexpr size_t kTogether = Format::kAddedRows;
  for (; i + kTogether <= w.n; i += kTogether) {
    rows_of_one<S, Format, kTogether>(w, a, i, y, begin, end);
  }
  if constexpr (kTogether == 8) {
    for (; i + kTogether / 2 <= w.n; i += kTogether / 2) {
      rows_of_one<S, Format, kTogether / 2>(w, a, i, y, begin, end);
    }
  }
  for (; i < w.n; ++i) {
    rows_of_one<S, Format, 1>(w, a, i, y, begin, end);
  }
}

template <class S, class Format>
inline void add_direct_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens,
                            float* y, size_t begin, size_t end) {
  const size_t n_together = n_tokens / kSummedTokens * kSummedTokens;
  constexpr size_t kTokensTogether = kTokenGroups * kSummedTokens;
  for (size_t t = 0; t < n_together; t += kTokensTogether) {
    const size_t left = (n_together - t) / kSummedTokens;
    for (size_t i = 0; i < w.n; i += kSummedRows) {
      add_to_groups<S, Format>(w, i, a + t * lda, lda, left < kTokenGroups ? left : kTokenGroups,
                               y + t * w.cols, begin, end);
    }
  }
  for (size_t t = n_together; t < n_tokens; ++t) {
    all_rows_of_one<S, Format>(w, a + t * lda, y + t * w.cols, begin, end);
  }
}

// Rows of a codec that is unpacked: a part of a group at a time as floats, scaled, for all tokens.
template <class S, class Format>
inline void add_unpacked_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens,
                              float* y, size_t col_begin, size_t col_end) {
  for (size_t i = 0; i < w.n; ++i) {
    const RowPlace row = {w.shared, w.rows[i], 0, w.cols};
    const float* const factors = a + w.ids[i];
    each_part<Format>(
        col_begin, col_end, w.cols, [&](size_t group, size_t begin, size_t end, bool) {
          RowCode<Format> codes[kUnpackedCols];
          read_codes<Format>(row, begin, end - begin, codes);
          const float scale = Format::affine(row, group).scale;
          float values[kUnpackedCols];
          for (size_t c = 0; c < end - begin; ++c) {
            values[c] = scale * static_cast<float>(codes[c]);
          }
          const std::byte* const from[] = {reinterpret_cast<const std::byte*>(values)};
          for (size_t t = 0; t < n_tokens; ++t) {
            const float factor[] = {factors[t * lda]};
            add_rows<S, Element::F32, 1>(from, factor, y + t * w.cols + begin, 0, end - begin,
                                         from);
          }
        });
  }
}

template <class S, Codec C>
void add_scaled_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                     double* bias, size_t col_begin, size_t col_end) {
  using Format = RowFormat<C>;
  if constexpr (kIsDirect<Format> && Format::kElement != Element::Bit) {
    add_direct_rows<S, Format>(w, a, lda, n_tokens, y, col_begin, col_end);
  } else {
    add_unpacked_rows<S, Format>(w, a, lda, n_tokens, y, col_begin, col_end);
  }
  add_offsets<Format>(w, a, lda, n_tokens, bias, col_begin, col_end);
}

}  // namespace
}  // namespace rwkv::edge

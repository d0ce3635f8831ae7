// Sums of scaled rows, for every table with vector registers. `S` is the table's Simd. A column is
// one chain of fused multiply-adds in the order of the rows, however rows and tokens are grouped.
#pragma once

#include "runtime/kernels/shared/matmul.h"

namespace rwkv::edge {
namespace {

constexpr size_t kRowsTogether = 4;
// Many tokens: registers of a row for each of them, and rows that are summed before the sums are
// put away.
constexpr size_t kSummedTokens = 4;
constexpr size_t kSummedFloats = 2;
constexpr size_t kSummedRows = 256;

// y[c] += sum_r factors[r] * numbers of row r, columns [begin, end) of one token. `next` are rows
// to come.
template <class S, Codec kCodec, size_t R>
inline void add_rows(const std::byte* const (&numbers)[R], const float (&factors)[R], float* y,
                     size_t begin, size_t end, const std::byte* const (&next)[R]) {
  typename S::F scaled[R];
  for (size_t r = 0; r < R; ++r) {
    scaled[r] = S::all(factors[r]);
  }
  const auto add = [&](const std::byte* const(&at)[R], float* to) __attribute__((always_inline)) {
    typename S::F sum = S::load(to);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      sum = S::fma(scaled[r], S::template numbers<kCodec>(at[r]), sum);
    }
    S::store(to, sum);
  };
  constexpr size_t kBytes = kCodec == Codec::F32 ? 4 : kCodec == Codec::F16 ? 2 : 1;
  const std::byte* at[R];
  size_t c = begin;
  while (c + S::kFloats <= end) {
    for (size_t r = 0; r < R; ++r) {
      __builtin_prefetch(next[r] + c * kBytes);
    }
    for (size_t line = 0; line < kCacheLine && c + S::kFloats <= end;
         line += S::kFloats * kBytes, c += S::kFloats) {
      for (size_t r = 0; r < R; ++r) {
        at[r] = numbers[r] + c * kBytes;
      }
      add(at, y + c);
    }
  }
  if (c < end) {
    std::byte rest[R][S::kFloats * kBytes] = {};
    float sums[S::kFloats] = {};
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(rest[r], numbers[r] + c * kBytes, (end - c) * kBytes);
      at[r] = rest[r];
    }
    std::memcpy(sums, y + c, (end - c) * sizeof(float));
    add(at, sums);
    std::memcpy(y + c, sums, (end - c) * sizeof(float));
  }
}

template <class S, Codec kCodec, size_t R>
inline void rows_of_one(const RowsView& w, const float* a, size_t i, float* y, size_t begin,
                        size_t end) {
  const std::byte* numbers[R];
  const std::byte* next[R];
  float factors[R];
  for (size_t r = 0; r < R; ++r) {
    const Row row = row_of<kCodec>(w.rows[i + r]);
    numbers[r] = row.numbers;
    factors[r] = a[w.ids[i + r]] * row.scale;
    next[r] = w.rows[i + R + r < w.n ? i + R + r : i + r];
  }
  add_rows<S, kCodec, R>(numbers, factors, y, begin, end, next);
}

// Rows and what they count for each of T tokens.
template <size_t T>
struct RowsOfTokens {
  size_t n;
  const std::byte* numbers[kSummedRows];
  float factors[kSummedRows][T];
};

// y[t][0..width) += all rows' numbers from column c on, sums in registers.
template <class S, Codec kCodec, size_t T>
inline void add_to_tokens(const RowsOfTokens<T>& rows, size_t c, float* const (&y)[T]) {
  constexpr size_t kBytes = kCodec == Codec::F32 ? 4 : kCodec == Codec::F16 ? 2 : 1;
  typename S::F sums[T][kSummedFloats];
  for (size_t t = 0; t < T; ++t) {
    for (size_t f = 0; f < kSummedFloats; ++f) {
      sums[t][f] = S::load(y[t] + f * S::kFloats);
    }
  }
  for (size_t r = 0; r < rows.n; ++r) {
    typename S::F numbers[kSummedFloats];
    for (size_t f = 0; f < kSummedFloats; ++f) {
      numbers[f] = S::template numbers<kCodec>(rows.numbers[r] + (c + f * S::kFloats) * kBytes);
    }
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      const typename S::F factor = S::all(rows.factors[r][t]);
      for (size_t f = 0; f < kSummedFloats; ++f) {
        sums[t][f] = S::fma(factor, numbers[f], sums[t][f]);
      }
    }
  }
  for (size_t t = 0; t < T; ++t) {
    for (size_t f = 0; f < kSummedFloats; ++f) {
      S::store(y[t] + f * S::kFloats, sums[t][f]);
    }
  }
}

// At most kSummedRows rows of `w` from row i on, for tokens [token, token + T).
template <class S, Codec kCodec, size_t T>
inline void rows_of_tokens(const RowsView& w, const float* a, size_t lda, size_t token, size_t i,
                           float* y, size_t begin, size_t end) {
  constexpr size_t kWidth = kSummedFloats * S::kFloats;
  RowsOfTokens<T> rows;
  rows.n = w.n - i < kSummedRows ? w.n - i : kSummedRows;
  for (size_t r = 0; r < rows.n; ++r) {
    const Row row = row_of<kCodec>(w.rows[i + r]);
    rows.numbers[r] = row.numbers;
    for (size_t t = 0; t < T; ++t) {
      rows.factors[r][t] = a[(token + t) * lda + w.ids[i + r]] * row.scale;
    }
  }
  float* to[T];
  size_t c = begin;
  for (; c + kWidth <= end; c += kWidth) {
    for (size_t t = 0; t < T; ++t) {
      to[t] = y + (token + t) * w.cols + c;
    }
    add_to_tokens<S, kCodec, T>(rows, c, to);
  }
  for (size_t t = 0; t < T && c < end; ++t) {
    for (size_t r = 0; r < rows.n; ++r) {
      const std::byte* const numbers[] = {rows.numbers[r]};
      const float factor[] = {rows.factors[r][t]};
      add_rows<S, kCodec, 1>(numbers, factor, y + (token + t) * w.cols, c, end, numbers);
    }
  }
}

template <class S, Codec kCodec>
inline void all_rows_of_one(const RowsView& w, const float* a, float* y, size_t begin, size_t end) {
  size_t i = 0;
  for (; i + kRowsTogether <= w.n; i += kRowsTogether) {
    rows_of_one<S, kCodec, kRowsTogether>(w, a, i, y, begin, end);
  }
  for (; i < w.n; ++i) {
    rows_of_one<S, kCodec, 1>(w, a, i, y, begin, end);
  }
}

template <Codec kCodec>
inline void add_offsets(const RowsView& w, const float* a, size_t lda, size_t n_tokens,
                        double* bias) {
  for (size_t i = 0; i < w.n; ++i) {
    const auto offset = static_cast<double>(row_of<kCodec>(w.rows[i]).offset);
    for (size_t t = 0; t < n_tokens; ++t) {
      bias[t] += static_cast<double>(a[t * lda + w.ids[i]]) * offset;
    }
  }
}

template <class S, Codec kCodec>
void accumulate_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                     double* bias, size_t col_begin, size_t col_end, float* /*scratch*/) {
  const size_t n_together = n_tokens / kSummedTokens * kSummedTokens;
  for (size_t i = 0; i < w.n && n_together > 0; i += kSummedRows) {
    for (size_t t = 0; t < n_together; t += kSummedTokens) {
      rows_of_tokens<S, kCodec, kSummedTokens>(w, a, lda, t, i, y, col_begin, col_end);
    }
  }
  for (size_t t = n_together; t < n_tokens; ++t) {
    all_rows_of_one<S, kCodec>(w, a + t * lda, y + t * w.cols, col_begin, col_end);
  }
  if (kCodec == Codec::I8Row && col_begin == 0) {
    add_offsets<kCodec>(w, a, lda, n_tokens, bias);
  }
}

/// nullptr for codecs that have no vectorised sum.
template <class S>
AccumulateRowsFn accumulate_rows_of(Codec codec) {
  switch (codec) {
    case Codec::F32:
      return accumulate_rows<S, Codec::F32>;
    case Codec::F16:
      return accumulate_rows<S, Codec::F16>;
    case Codec::I8Row:
      return accumulate_rows<S, Codec::I8Row>;
    case Codec::SignRow:
    case Codec::Mm8:
      break;
  }
  return nullptr;
}

}  // namespace
}  // namespace rwkv::edge

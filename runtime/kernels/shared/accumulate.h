// Sums of scaled rows, for every table with vector registers. `S` is the table's Simd. A column is
// one chain of fused multiply-adds in the order of the rows, however rows and tokens are grouped.
#pragma once

#include "runtime/kernels/shared/matmul.h"

namespace rwkv::edge {
namespace {

constexpr size_t kRowsTogether = 4;
// Many tokens: rows decoded once, and registers a row.
constexpr size_t kDecodedRows = 8;
constexpr size_t kDecodedFloats = 2;
constexpr size_t kCacheLine = 64;

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

// Registers of `R` rows, decoded once, against every token.
template <class S, Codec kCodec, size_t R>
inline void rows_of_many(const RowsView& w, const float* a, size_t lda, size_t n_tokens, size_t i,
                         float* y, size_t begin, size_t end) {
  constexpr size_t kBytes = kCodec == Codec::F32 ? 4 : kCodec == Codec::F16 ? 2 : 1;
  constexpr size_t kWidth = kDecodedFloats * S::kFloats;
  Row rows[R];
  for (size_t r = 0; r < R; ++r) {
    rows[r] = row_of<kCodec>(w.rows[i + r]);
  }
  for (size_t c = begin; c < end; c += kWidth) {
    const size_t n = end - c < kWidth ? end - c : kWidth;
    typename S::F decoded[R][kDecodedFloats];
    for (size_t r = 0; r < R; ++r) {
      std::byte rest[kWidth * kBytes] = {};
      const std::byte* from = rows[r].numbers + c * kBytes;
      if (n < kWidth) {
        std::memcpy(rest, from, n * kBytes);
        from = rest;
      }
      for (size_t f = 0; f < kDecodedFloats; ++f) {
        decoded[r][f] = S::template numbers<kCodec>(from + f * S::kFloats * kBytes);
      }
    }
    for (size_t t = 0; t < n_tokens; ++t) {
      float rest[kWidth] = {};
      float* to = y + t * w.cols + c;
      if (n < kWidth) {
        std::memcpy(rest, to, n * sizeof(float));
      }
      float* at = n < kWidth ? rest : to;
      typename S::F sums[kDecodedFloats];
      for (size_t f = 0; f < kDecodedFloats; ++f) {
        sums[f] = S::load(at + f * S::kFloats);
      }
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        const typename S::F factor = S::all(a[t * lda + w.ids[i + r]] * rows[r].scale);
        for (size_t f = 0; f < kDecodedFloats; ++f) {
          sums[f] = S::fma(factor, decoded[r][f], sums[f]);
        }
      }
      for (size_t f = 0; f < kDecodedFloats; ++f) {
        S::store(at + f * S::kFloats, sums[f]);
      }
      if (n < kWidth) {
        std::memcpy(to, rest, n * sizeof(float));
      }
    }
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
  size_t i = 0;
  if (n_tokens == 1) {
    for (; i + kRowsTogether <= w.n; i += kRowsTogether) {
      rows_of_one<S, kCodec, kRowsTogether>(w, a, i, y, col_begin, col_end);
    }
    for (; i < w.n; ++i) {
      rows_of_one<S, kCodec, 1>(w, a, i, y, col_begin, col_end);
    }
  } else {
    for (; i + kDecodedRows <= w.n; i += kDecodedRows) {
      rows_of_many<S, kCodec, kDecodedRows>(w, a, lda, n_tokens, i, y, col_begin, col_end);
    }
    for (; i < w.n; ++i) {
      rows_of_many<S, kCodec, 1>(w, a, lda, n_tokens, i, y, col_begin, col_end);
    }
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

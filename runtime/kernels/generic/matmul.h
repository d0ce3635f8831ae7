// Products with matrices stored row by row, the same text for every codec.
#pragma once

#include "runtime/kernels/loops/rows.h"

namespace rwkv::edge::generic {
namespace {

// Floats are summed in this many interleaved lanes, which compilers turn into vectors.
constexpr size_t kLanes = 16;
// Tokens that share the unpacking of a row.
constexpr size_t kTokens = 4;

inline float sum_of_lanes(float* lanes) {
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      lanes[lane] += lanes[lane + half];
    }
  }
  return lanes[0];
}

// w(i) is the value of column i.
template <class Value>
inline void add_products(const Value& w, const float* x, size_t n, float* lanes) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += w(i + lane) * x[i + lane];
    }
  }
  for (size_t lane = 0; i + lane < n; ++lane) {
    lanes[lane] += w(i + lane) * x[i + lane];
  }
}

// kUnpackedCols of them fit 32 bits, and they are exact in any order.
inline int32_t int_products(const int8_t* w, const int16_t* x, size_t n) {
  int32_t sum = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += w[i] * x[i];
  }
  return sum;
}

// Of `n` tokens, at most kTokens, from `first` on.
template <class Format>
void float_row(const RowPlace& row, const Inputs& x, size_t first, size_t n, float* y, size_t ldy) {
  float lanes[kTokens][kLanes] = {};
  if constexpr (Format::kElement != Element::Packed) {
    if (n == 1) {
      const std::byte* const codes = row.unit + Format::kHeader;
      add_products([&](size_t i) { return float_code<Format::kElement>(codes, i); },
                   x.x + first * x.cols, x.cols, lanes[0]);
      y[first * ldy] = sum_of_lanes(lanes[0]);
      return;
    }
  }
  each_part<Format>(0, x.cols, x.cols, [&](size_t, size_t begin, size_t end, bool) {
    float values[kUnpackedCols];
    read_codes<Format>(row, begin, end - begin, values);
    for (size_t t = 0; t < n; ++t) {
      add_products([&](size_t i) { return values[i]; }, x.x + (first + t) * x.cols + begin,
                   end - begin, lanes[t]);
    }
  });
  for (size_t t = 0; t < n; ++t) {
    y[(first + t) * ldy] = sum_of_lanes(lanes[t]);
  }
}

template <class Format>
void int_row(const RowPlace& row, const Inputs& x, size_t first, size_t n, float* y, size_t ldy) {
  const size_t ldq = padded_cols(x.cols);
  int64_t totals[kTokens] = {};
  size_t group_begin = 0;
  each_part<Format>(0, x.cols, x.cols, [&](size_t group, size_t begin, size_t end, bool is_last) {
    int8_t codes[kUnpackedCols];
    read_codes<Format>(row, begin, end - begin, codes);
    for (size_t t = 0; t < n; ++t) {
      totals[t] += int_products(codes, x.q + (first + t) * ldq + begin, end - begin);
    }
    if (!is_last) {
      return;
    }
    const Affine affine = Format::affine(row, group);
    for (size_t t = 0; t < n; ++t) {
      float& to = y[(first + t) * ldy];
      const float here = group_product<Format>(affine, x, first + t, group_begin, end, totals[t]);
      to = group == 0 ? here : to + here;
      totals[t] = 0;
    }
    group_begin = end;
  });
}

template <class Format, class Rows>
void product(const Rows& rows, const Inputs& x, float* y, size_t ldy, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    const RowPlace row = rows.place(i);
    for (size_t t = 0; t < x.n_tokens; t += kTokens) {
      const size_t n = x.n_tokens - t < kTokens ? x.n_tokens - t : kTokens;
      if constexpr (Format::kInputs == InputForm::Floats) {
        float_row<Format>(row, x, t, n, y + rows.id(i), ldy);
      } else {
        int_row<Format>(row, x, t, n, y + rows.id(i), ldy);
      }
    }
  }
}

template <Codec C>
void matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t begin, size_t end) {
  using Format = RowFormat<C>;
  product<Format>(dense_rows<Format::kUnitRows>(w), x, y, ldy, begin, end);
}

template <Codec C>
void matmul_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                 size_t end) {
  product<RowFormat<C>>(GatheredRows<RowOrder::Scattered>{w}, x, y, ldy, begin, end);
}

}  // namespace
}  // namespace rwkv::edge::generic

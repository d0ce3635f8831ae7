// Products with lut codecs in plain C++: it defines the bits of all kernel sets. Integer products
// of a piece of 64 columns are exact; then the sums of a row are floats, in a fixed order: a
// multiply and an add for each, never fused.
#pragma once

#include "runtime/kernels/loops/rows.h"
#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

/// A row by itself is summed in this many lanes, of columns 4 l .. 4 l + 3 of every piece; a row of
/// a tile in one.
constexpr size_t kLutLanes = 16;
constexpr size_t kLutTokens = 4;

/// Lane l gets lane l + 8, then + 4, + 2, + 1.
inline float sum_of_lut_lanes(float* lanes) {
  for (size_t half = kLutLanes / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) {
      lanes[lane] += lanes[lane + half];
    }
  }
  return lanes[0];
}

// sums[lane] += a piece of 64 columns times the inputs of a token.
template <class Format>
inline void add_lut_piece(const RowPlace& row, size_t piece, const int8_t (&values)[kLutCols],
                          const int8_t* q, float step, float* sums) {
  constexpr size_t kGroups = kLutCols / Format::kGroup;
  constexpr bool kIsTile = Format::kUnitRows > 1;
  constexpr size_t kQuads = kLutCols / kLutLanes;
  for (size_t g = 0; g < kGroups; ++g) {
    const auto scale = static_cast<float>(Format::group_scale(row, piece * kGroups + g));
    const float factor = scale * step;
    int32_t group_total = 0;
    for (size_t lane = g * kLutLanes / kGroups; lane < (g + 1) * kLutLanes / kGroups; ++lane) {
      int32_t total = 0;
      for (size_t i = 0; i < kQuads; ++i) {
        total += values[kQuads * lane + i] * q[kQuads * lane + i];
      }
      group_total += total;
      if constexpr (!kIsTile) {
        sums[lane] += static_cast<float>(total) * factor;
      }
    }
    if constexpr (kIsTile) {
      sums[0] += static_cast<float>(group_total) * factor;
    }
  }
}

/// Of `n` tokens, at most kLutTokens, from `first` on.
template <class Format>
inline void lut_row(const RowPlace& row, const Inputs& x, size_t first, size_t n, float* y,
                    size_t ldy) {
  constexpr size_t kSums = Format::kUnitRows > 1 ? 1 : kLutLanes;
  const size_t n_pieces = n_byte_groups(x.cols);
  float sums[kLutTokens][kSums] = {};
  for (size_t piece = 0; piece < n_pieces; ++piece) {
    int8_t values[kLutCols];
    Format::unpack(row, piece * kLutCols, kLutCols, values);
    for (size_t t = 0; t < n; ++t) {
      const size_t at = (first + t) * n_pieces + piece;
      add_lut_piece<Format>(row, piece, values, x.bytes + at * kByteGroup, x.byte_steps[at],
                            sums[t]);
    }
  }
  const float scale = Format::row_scale(row);
  for (size_t t = 0; t < n; ++t) {
    if constexpr (kSums == 1) {
      y[(first + t) * ldy] = scale * sums[t][0];
    } else {
      y[(first + t) * ldy] = scale * sum_of_lut_lanes(sums[t]);
    }
  }
}

template <class Format, class Rows>
[[gnu::noinline]] void lut_product(const Rows& rows, const Inputs& x, float* y, size_t ldy,
                                   size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    for (size_t t = 0; t < x.n_tokens; t += kLutTokens) {
      const size_t n = x.n_tokens - t < kLutTokens ? x.n_tokens - t : kLutTokens;
      lut_row<Format>(rows.place(i), x, t, n, y + rows.id(i), ldy);
    }
  }
}

/// y[t][c] += (a[t][row] * scale of the row and group) * value, columns [begin, end).
template <class Format>
[[gnu::noinline]] void add_lut_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens,
                                    float* y, size_t begin, size_t end) {
  for (size_t i = 0; i < w.n; ++i) {
    const RowPlace row = {w.shared, w.rows[i], 0, w.cols};
    const float* const factors = a + w.ids[i];
    each_part<Format>(begin, end, w.cols, [&](size_t group, size_t from, size_t to, bool) {
      int8_t values[kLutCols];
      Format::unpack(row, from, to - from, values);
      const float scale = Format::affine(row, group).scale;
      for (size_t t = 0; t < n_tokens; ++t) {
        const float factor = factors[t * lda] * scale;
        float* const sums = y + t * w.cols + from;
        for (size_t c = 0; c < to - from; ++c) {
          sums[c] += factor * static_cast<float>(values[c]);
        }
      }
    });
  }
}

}  // namespace
}  // namespace rwkv::edge

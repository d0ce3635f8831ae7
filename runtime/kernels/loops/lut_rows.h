// Products with lut codecs in plain C++: it defines the bits of all kernel sets. Integer products
// of a piece of 64 columns are exact; then the sums of a row are floats, in a fixed order: a
// multiply and an add for each, never fused. One function for all of these codecs: better sets have
// loops of their own for those that matter.
#pragma once

#include "formats/codec/lut.h"
#include "runtime/kernels/loops/rows.h"
#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

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

/// A row of a lut matrix.
struct LutPlace {
  const LutKind& kind;
  const RowPlace& row;

  bool is_tile() const { return kind.layout == LutLayout::Tiles; }
  float row_scale() const { return float_at(row.unit + 4 * row.in_unit); }
  float group_scale(size_t group) const {
    return static_cast<float>(
        static_cast<int8_t>(row.unit[lut_scale_at(kind, group) + row.in_unit]));
  }
  void values(size_t piece, int8_t (&out)[kLutCols]) const {
    lut_values(kind, row.shared, row.unit + lut_codes_at(kind, row.cols, piece) + 4 * row.in_unit,
               out);
  }
};

// sums[lane] += a piece of 64 columns times the inputs of a token; one lane for a row of a tile.
inline void add_lut_piece(const LutPlace& place, size_t piece, const int8_t (&values)[kLutCols],
                          const int8_t* q, float step, float* sums) {
  constexpr size_t kQuad = kLutCols / kLutLanes;
  const size_t n_groups = kLutCols / place.kind.group;
  const size_t lanes = kLutLanes / n_groups;
  for (size_t g = 0; g < n_groups; ++g) {
    const float factor = place.group_scale(piece * n_groups + g) * step;
    int32_t group_total = 0;
    for (size_t lane = g * lanes; lane < (g + 1) * lanes; ++lane) {
      int32_t total = 0;
      for (size_t i = 0; i < kQuad; ++i) {
        total += values[kQuad * lane + i] * q[kQuad * lane + i];
      }
      group_total += total;
      if (!place.is_tile()) {
        sums[lane] += static_cast<float>(total) * factor;
      }
    }
    if (place.is_tile()) {
      sums[0] += static_cast<float>(group_total) * factor;
    }
  }
}

/// Of `n` tokens, at most kLutTokens, from `first` on.
inline void lut_row(const LutPlace& place, const Inputs& x, size_t first, size_t n, float* y,
                    size_t ldy) {
  const size_t n_pieces = n_byte_groups(x.cols);
  float sums[kLutTokens][kLutLanes] = {};
  for (size_t piece = 0; piece < n_pieces; ++piece) {
    int8_t values[kLutCols];
    place.values(piece, values);
    for (size_t t = 0; t < n; ++t) {
      const size_t at = (first + t) * n_pieces + piece;
      add_lut_piece(place, piece, values, x.bytes + at * kByteGroup, x.byte_steps[at], sums[t]);
    }
  }
  for (size_t t = 0; t < n; ++t) {
    y[(first + t) * ldy] =
        place.row_scale() * (place.is_tile() ? sums[t][0] : sum_of_lut_lanes(sums[t]));
  }
}

[[gnu::noinline]] void lut_tokens(const LutKind& kind, const RowPlace& row, const Inputs& x,
                                  float* y, size_t ldy) {
  for (size_t t = 0; t < x.n_tokens; t += kLutTokens) {
    const size_t n = x.n_tokens - t < kLutTokens ? x.n_tokens - t : kLutTokens;
    lut_row({kind, row}, x, t, n, y, ldy);
  }
}

inline void lut_product(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                        size_t end) {
  const CodecTraits& traits = codec_traits(w.codec);
  for (size_t i = begin; i < end; ++i) {
    const RowPlace row = {w.shared, w.units + i / traits.unit_rows * traits.unit_bytes(w.cols),
                          i % traits.unit_rows, w.cols};
    lut_tokens(*traits.lut, row, x, y + i, ldy);
  }
}

inline void lut_product_of_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy,
                                size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    const RowPlace row = {w.shared, w.rows[i], 0, w.cols};
    lut_tokens(*codec_traits(w.codec).lut, row, x, y + w.ids[i], ldy);
  }
}

/// y[t][c] += short_factor(a[t][row] * (row scale * group scale)) * value, columns [begin, end).
inline void add_lut_rows(const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                         size_t begin, size_t end) {
  const LutKind& kind = *codec_traits(w.codec).lut;
  for (size_t i = 0; i < w.n; ++i) {
    const RowPlace row = {w.shared, w.rows[i], 0, w.cols};
    const LutPlace place = {kind, row};
    for (size_t at = begin; at < end;) {
      const size_t piece = at / kLutCols;
      const size_t group_end = at / kind.group * kind.group + kind.group;
      const size_t to = group_end < end ? group_end : end;
      int8_t values[kLutCols];
      place.values(piece, values);
      const float scale = place.row_scale() * place.group_scale(at / kind.group);
      for (size_t t = 0; t < n_tokens; ++t) {
        const float factor = short_factor(a[t * lda + w.ids[i]] * scale);
        for (size_t c = at; c < to; ++c) {
          y[t * w.cols + c] += factor * static_cast<float>(values[c - piece * kLutCols]);
        }
      }
      at = to;
    }
  }
}

}  // namespace
}  // namespace rwkv::edge

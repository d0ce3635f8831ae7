// Products with tiles of 16 rows of lut codecs, for sets with vector registers: the bits of
// loops/lut_rows.h. A lane is a row, so nothing is summed across lanes. `L` is the set's LutSimd:
//   V, I, F          registers of bytes, of 32-bit integers and of floats, all of kLanes rows
//   kTokens          tokens that share decoded codes
//   Table, table()   the values of codes, as lookup() wants them
//   lookup()         values of codes in the low bits of bytes; what is above them is ignored
//   shr<n>(), shl<n>()  shift bytes, which may take bits of their neighbours along
//   low_or(n, a, b)  the low n bits of a, the others of b
//   dot8()           adds products of eight quads and 32 inputs
//   start(), scales(), add_scaled(), store_scaled()  see below
#pragma once

#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

constexpr size_t kQuads = 8;

/// The values of eight quads, 32 columns of kLanes rows, from vectors that are 64 bytes apart.
template <class L, unsigned kBits>
[[gnu::always_inline]] inline void decode_quads(const std::byte* from,
                                                const typename L::Table& table,
                                                typename L::V (&values)[kQuads]) {
  using V = typename L::V;
  const auto vector = [from](size_t i) __attribute__((always_inline)) {
    return L::load(from + 64 * i);
  };
  if constexpr (kBits == 3) {
    const V a = vector(0);
    const V b = vector(1);
    const V c = vector(2);
    values[0] = L::template lookup<3>(table, a);
    values[1] = L::template lookup<3>(table, L::template shr<3>(a));
    values[2] = L::template lookup<3>(table, b);
    values[3] = L::template lookup<3>(table, L::template shr<3>(b));
    values[4] = L::template lookup<3>(table, c);
    values[5] = L::template lookup<3>(table, L::template shr<3>(c));
    values[6] = L::template lookup<3>(
        table, L::template low_or<2>(L::template shr<6>(a), L::template shr<4>(b)));
    values[7] = L::template lookup<3>(
        table, L::template low_or<2>(L::template shr<6>(c), L::template shr<5>(b)));
  } else if constexpr (kBits == 5) {
    const V fifth = vector(4);
    const V high[kQuads] = {L::template shl<4>(fifth),
                            L::template shl<3>(fifth),
                            L::template shl<2>(fifth),
                            L::template shl<1>(fifth),
                            fifth,
                            L::template shr<1>(fifth),
                            L::template shr<2>(fifth),
                            L::template shr<3>(fifth)};
#pragma GCC unroll 8
    for (size_t i = 0; i < 4; ++i) {
      const V both = vector(i);
      values[2 * i] = L::template lookup<5>(table, L::template low_or<4>(both, high[2 * i]));
      values[2 * i + 1] = L::template lookup<5>(
          table, L::template low_or<4>(L::template shr<4>(both), high[2 * i + 1]));
    }
  } else {
    static_assert(kBits == 4);
#pragma GCC unroll 8
    for (size_t i = 0; i < 4; ++i) {
      const V both = vector(i);
      values[2 * i] = L::template lookup<4>(table, both);
      values[2 * i + 1] = L::template lookup<4>(table, L::template shr<4>(both));
    }
  }
}

/// Sums of T tokens over the groups of a tile.
template <class L, LutKind kKind, size_t T>
[[gnu::noinline]] void lut_tile(const std::byte* unit, const typename L::Table& table,
                                const Inputs& x, size_t token, float (&y)[T][kLutTileRows]) {
  using I = typename L::I;
  constexpr size_t kParts = kLutTileRows / L::kLanes;
  constexpr size_t kPartBytes = 4 * L::kLanes;
  constexpr size_t kPieceBytes = lut_piece_bytes(kKind);
  static_assert(kKind.group == kLutCols);
  typename L::F sums[T][kParts];
  for (size_t t = 0; t < T; ++t) {
    for (size_t p = 0; p < kParts; ++p) {
      sums[t][p] = L::no_sum();
    }
  }
  const size_t n_groups = n_byte_groups(x.cols);
  const size_t first = token * n_groups;
  const std::byte* at = unit + 4 * kLutTileRows;
  for (size_t g = 0; g < n_groups;) {
    const size_t left =
        n_groups - g < kLutBlockCols / kLutCols ? n_groups - g : kLutBlockCols / kLutCols;
    const std::byte* scales = at;
    at += kLutTileRows * (kLutBlockCols / kLutCols);
    for (const size_t end = g + left; g < end; ++g, at += kPieceBytes, scales += kLutTileRows) {
#pragma GCC unroll 4
      for (size_t p = 0; p < kParts; ++p) {
        I totals[T];
#pragma GCC unroll 8
        for (size_t t = 0; t < T; ++t) {
          totals[t] = L::start(x.byte_sums[first + t * n_groups + g]);
        }
#pragma GCC unroll 2
        for (size_t half = 0; half < 2; ++half) {
          typename L::V values[kQuads];
          decode_quads<L, kKind.bits>(at + half * kPieceBytes / 2 + p * kPartBytes, table, values);
#pragma GCC unroll 8
          for (size_t t = 0; t < T; ++t) {
            const size_t input = (first + t * n_groups + g) * kByteGroup + half * kByteGroup / 2;
            totals[t] = L::dot8(totals[t], values, x.bytes + input);
          }
        }
        const typename L::F scale = L::scales(scales + p * L::kLanes);
#pragma GCC unroll 8
        for (size_t t = 0; t < T; ++t) {
          sums[t][p] =
              L::add_scaled(sums[t][p], totals[t], scale, x.byte_steps[first + t * n_groups + g]);
        }
      }
    }
  }
  for (size_t t = 0; t < T; ++t) {
    for (size_t p = 0; p < kParts; ++p) {
      L::store_scaled(y[t] + p * L::kLanes, sums[t][p], unit + 4 * L::kLanes * p);
    }
  }
}

template <class L, LutKind kKind, size_t T>
inline void lut_tiles(const MatrixView& w, const typename L::Table& table, const Inputs& x,
                      size_t token, float* y, size_t ldy, size_t begin, size_t end) {
  const size_t unit_bytes = lut_unit_bytes(kKind, w.cols);
  for (size_t row = begin; row < end;) {
    const size_t in_tile = row % kLutTileRows;
    const size_t left = kLutTileRows - in_tile;
    const size_t n = left < end - row ? left : end - row;
    float sums[T][kLutTileRows];
    lut_tile<L, kKind, T>(w.units + row / kLutTileRows * unit_bytes, table, x, token, sums);
    for (size_t t = 0; t < T; ++t) {
      std::memcpy(y + (token + t) * ldy + row, sums[t] + in_tile, n * sizeof(float));
    }
    row += n;
  }
}

template <class L, LutKind kKind>
void lut_matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
                size_t row_end) {
  const typename L::Table table = L::template table<kKind.bits>(w.shared);
  size_t t = 0;
  for (; t + L::kTokens <= x.n_tokens; t += L::kTokens) {
    lut_tiles<L, kKind, L::kTokens>(w, table, x, t, y, ldy, row_begin, row_end);
  }
  for (; t < x.n_tokens; ++t) {
    lut_tiles<L, kKind, 1>(w, table, x, t, y, ldy, row_begin, row_end);
  }
}

}  // namespace
}  // namespace rwkv::edge

// Products with tiles of 16 rows of lut codecs, for sets with vector registers: the bits of
// loops/lut_rows.h. A lane is a row, so nothing is summed across lanes. `L` is the set's LutSimd:
//   V, I, F          registers of bytes, of 32-bit integers and of floats, all of kLanes rows
//   Table, table()   the values of codes, as lookup() wants them
//   lookup()         values of codes in the low bits of bytes; what is above them is ignored
//   shr<n>(), shl<n>()  shift bytes, which may take bits of their neighbours along
//   low_or(n, a, b)  the low n bits of a, the others of b
//   dot8()           adds products of eight quads and 32 inputs
//   start_half()     start() for 32 inputs, whose sum it computes
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
  } else if constexpr (kBits == 6) {
    const V g = vector(4);
    const V h = vector(5);
    const V high[kQuads] = {L::template shl<4>(g), L::template shl<2>(g), g, L::template shr<2>(g),
                            L::template shl<4>(h), L::template shl<2>(h), h, L::template shr<2>(h)};
#pragma GCC unroll 8
    for (size_t i = 0; i < 4; ++i) {
      const V both = vector(i);
      values[2 * i] = L::template lookup<6>(table, L::template low_or<4>(both, high[2 * i]));
      values[2 * i + 1] = L::template lookup<6>(
          table, L::template low_or<4>(L::template shr<4>(both), high[2 * i + 1]));
    }
  } else if constexpr (kBits == 2) {
#pragma GCC unroll 8
    for (size_t i = 0; i < 2; ++i) {
      const V four = vector(i);
      values[4 * i] = L::template lookup<2>(table, four);
      values[4 * i + 1] = L::template lookup<2>(table, L::template shr<2>(four));
      values[4 * i + 2] = L::template lookup<2>(table, L::template shr<4>(four));
      values[4 * i + 3] = L::template lookup<2>(table, L::template shr<6>(four));
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

/// f(0) to f(N - 1); the loop is unrolled or kept.
template <bool kUnrolled, size_t N, class F>
[[gnu::always_inline]] inline void repeat(const F& f) {
  if constexpr (kUnrolled) {
#pragma GCC unroll 4
    for (size_t i = 0; i < N; ++i) {
      f(i);
    }
  } else {
#pragma GCC unroll 1
    for (size_t i = 0; i < N; ++i) {
      f(i);
    }
  }
}

/// Tokens that share decoded codes; loops over them are kept, since their products are code enough.
constexpr size_t kTileTokens = 8;

/// Adds a group of columns of kLanes rows to the sums of `n` tokens, 1 if T is 1. `codes` are its
/// codes, `scales` its scales, `input` the place of its inputs in those of the first token.
template <class L, LutKind kKind, size_t T>
[[gnu::always_inline]] inline void add_group(const std::byte* codes, const std::byte* scales,
                                             const typename L::Table& table, const Inputs& x,
                                             size_t input, size_t n, typename L::F* sums,
                                             size_t parts) {
  constexpr size_t kHalves = kKind.group / (kLutCols / 2);
  const size_t ldx = n_byte_groups(x.cols) * kByteGroup;
  typename L::I totals[T];
  for (size_t t = 0; t < n; ++t) {
    if constexpr (kHalves == 2) {
      totals[t] = L::start(x.byte_sums[(t * ldx + input) / kByteGroup]);
    } else {
      totals[t] = L::start_half(x.bytes + t * ldx + input);
    }
  }
  repeat<T == 1, kHalves>([&](size_t half) __attribute__((always_inline)) {
    typename L::V values[kQuads];
    decode_quads<L, kKind.bits>(codes + half * lut_piece_bytes(kKind) / 2, table, values);
    const int8_t* inputs = x.bytes + input + half * kLutCols / 2;
#pragma GCC unroll 1
    for (size_t t = 0; t < n; ++t, inputs += ldx) {
      totals[t] = L::dot8(totals[t], values, inputs);
    }
  });
  const typename L::F scale = L::scales(scales);
  for (size_t t = 0; t < n; ++t) {
    sums[t * parts] = L::add_scaled(sums[t * parts], totals[t], scale,
                                    x.byte_steps[(t * ldx + input) / kByteGroup]);
  }
}

/// Sums of `n` tokens over the groups of a tile, 1 if T is 1.
template <class L, LutKind kKind, size_t T>
[[gnu::noinline]] void lut_tile(const std::byte* unit, const typename L::Table& table,
                                const Inputs& x, size_t token, size_t n_tokens,
                                float (&y)[T][kLutTileRows]) {
  constexpr size_t kParts = kLutTileRows / L::kLanes;
  constexpr size_t kPieceBytes = lut_piece_bytes(kKind);
  constexpr size_t kGroups = kLutCols / kKind.group;
  const size_t n_sums = T == 1 ? 1 : n_tokens;
  typename L::F sums[T][kParts];
  for (size_t t = 0; t < n_sums; ++t) {
    for (size_t p = 0; p < kParts; ++p) {
      sums[t][p] = L::no_sum();
    }
  }
  const size_t n_pieces = n_byte_groups(x.cols);
  const std::byte* at = unit + 4 * kLutTileRows;
  for (size_t piece = 0; piece < n_pieces;) {
    constexpr size_t kMost = kLutBlockCols / kLutCols;
    const size_t n = n_pieces - piece < kMost ? n_pieces - piece : kMost;
    const std::byte* scales = at;
    at += lut_scale_bytes(n * kLutCols, kKind.group);
    for (const size_t end = piece + n; piece < end; ++piece, at += kPieceBytes) {
      const size_t input = (token * n_pieces + piece) * kByteGroup;
      repeat<T == 1, kParts>([&](size_t p) __attribute__((always_inline)) {
        repeat<T == 1, kGroups>([&](size_t group) __attribute__((always_inline)) {
          add_group<L, kKind, T>(at + group * kPieceBytes / kGroups + 4 * p * L::kLanes,
                                 scales + group * kLutTileRows + p * L::kLanes, table, x,
                                 input + group * kKind.group, n_sums, &sums[0][p], kParts);
        });
      });
      scales += kGroups * kLutTileRows;
    }
  }
  for (size_t t = 0; t < n_sums; ++t) {
    for (size_t p = 0; p < kParts; ++p) {
      L::store_scaled(y[t] + p * L::kLanes, sums[t][p], unit + 4 * L::kLanes * p);
    }
  }
}

/// Rows [begin, end) for `n_tokens` tokens, 1 if T is 1.
template <class L, LutKind kKind, size_t T>
inline void lut_tiles(const MatrixView& w, const typename L::Table& table, const Inputs& x,
                      size_t token, size_t n_tokens, float* y, size_t ldy, size_t begin,
                      size_t end) {
  const size_t unit_bytes = lut_unit_bytes(kKind, w.cols);
  for (size_t row = begin; row < end;) {
    const size_t in_tile = row % kLutTileRows;
    const size_t left = kLutTileRows - in_tile;
    const size_t n = left < end - row ? left : end - row;
    float sums[T][kLutTileRows];
    lut_tile<L, kKind, T>(w.units + row / kLutTileRows * unit_bytes, table, x, token, n_tokens,
                          sums);
    for (size_t t = 0; t < n_tokens; ++t) {
      std::memcpy(y + (token + t) * ldy + row, sums[t] + in_tile, n * sizeof(float));
    }
    row += n;
  }
}

template <class L, LutKind kKind>
void lut_matmul(const MatrixView& w, const Inputs& x, float* y, size_t ldy, size_t row_begin,
                size_t row_end) {
  const typename L::Table table = L::template table<kKind.bits>(w.shared);
  if (x.n_tokens == 1) {
    lut_tiles<L, kKind, 1>(w, table, x, 0, 1, y, ldy, row_begin, row_end);
    return;
  }
  for (size_t t = 0; t < x.n_tokens; t += kTileTokens) {
    const size_t n = x.n_tokens - t < kTileTokens ? x.n_tokens - t : kTileTokens;
    lut_tiles<L, kKind, kTileTokens>(w, table, x, t, n, y, ldy, row_begin, row_end);
  }
}

}  // namespace
}  // namespace rwkv::edge

// Where the codes of lut codecs lie, for both halves of the codecs. Everything here is computed by
// the compiler, or in an unnamed namespace: kernel sets share it, and the linker must not take the
// code of one set for another's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace rwkv {

/// Rows by themselves, or tiles of 16 rows.
enum class LutLayout : uint8_t { Rows = 0, Tiles = 1 };

struct LutKind {
  uint8_t bits;  ///< of a code
  LutLayout layout;
  uint8_t group;  ///< columns that share a scale: 32 or 64
};

inline constexpr size_t kLutTileRows = 16;
/// Codes lie in pieces of this many columns; a row is filled up with zeros.
inline constexpr size_t kLutCols = 64;
/// Columns of a tile whose scales lie together, in front of their codes.
inline constexpr size_t kLutBlockCols = 256;
/// The part that all rows share: the table of values, then bits, layout, group, zeros.
inline constexpr size_t kLutHeader = 64;
inline constexpr size_t kLutTable = 32;
inline constexpr size_t kLutBitsAt = 32;
inline constexpr size_t kLutLayoutAt = 33;
inline constexpr size_t kLutGroupAt = 34;
/// Values of a table lie in [kLutLow, kLutHigh]: with 64 added, sums of two products with bytes fit
/// 16 bits.
inline constexpr int kLutLow = -64;
inline constexpr int kLutHigh = 63;
/// What codes of six bits have in place of a table.
inline constexpr int kUniformOffset = -32;

namespace {

/// Of the code of a column in a piece of 64: its low bits, and its high bits where a byte does not
/// hold whole codes. In a tile the place of row 0; row i has the bytes 4 i further on.
struct CodePlace {
  uint16_t low_at = 0;
  uint8_t low_shift = 0;
  uint8_t low_bits = 0;
  uint16_t high_at = 0;
  uint8_t high_shift = 0;
  uint8_t high_bits = 0;
};

/// In a tile four columns of a row lie side by side, a quad; vectors of 64 bytes hold one or more
/// quads of 16 rows.
constexpr CodePlace tile_place(unsigned bits, unsigned col) {
  constexpr unsigned kVector = 64;
  const unsigned quad = col / 4;
  const unsigned in_quad = col % 4;
  const unsigned half = quad / 8;
  const unsigned k = quad % 8;
  const auto at = [&](unsigned vector) {
    return static_cast<uint16_t>(vector * kVector + in_quad);
  };
  const auto nibble = static_cast<uint8_t>(4 * (quad % 2));
  switch (bits) {
    case 2:
      return {at(quad / 4), static_cast<uint8_t>(2 * (quad % 4)), 2, 0, 0, 0};
    case 3:
      if (k < 6) {
        return {at(3 * half + k / 2), static_cast<uint8_t>(3 * (k % 2)), 3, 0, 0, 0};
      }
      return {at(3 * half + (k == 6 ? 0 : 2)),      6, 2, at(3 * half + 1),
              static_cast<uint8_t>(k == 6 ? 6 : 7), 1};
    case 4:
      return {at(quad / 2), nibble, 4, 0, 0, 0};
    case 5:
      return {at(5 * half + k / 2), nibble, 4, at(5 * half + 4), static_cast<uint8_t>(k), 1};
    default:
      return {at(6 * half + k / 2),
              nibble,
              4,
              at(6 * half + 4 + k / 4),
              static_cast<uint8_t>(2 * (k % 4)),
              2};
  }
}

constexpr CodePlace row_place(unsigned bits, unsigned col) {
  const auto nibble = static_cast<uint8_t>(4 * (col / 32));
  const auto pair = static_cast<uint8_t>(2 * (col / 16));
  const auto bit = static_cast<uint8_t>(col % 8);
  const auto byte = [](unsigned at) { return static_cast<uint16_t>(at); };
  switch (bits) {
    case 2:
      return {byte(col % 16), pair, 2, 0, 0, 0};
    case 3:
      return {byte(col % 16), pair, 2, byte(16 + col / 8), bit, 1};
    case 4:
      return {byte(col % 32), nibble, 4, 0, 0, 0};
    case 5:
      return {byte(col % 32), nibble, 4, byte(32 + col / 8), bit, 1};
    default:
      return {byte(col % 32), nibble, 4, byte(32 + col % 16), pair, 2};
  }
}

using CodePlaces = std::array<CodePlace, kLutCols>;
constexpr CodePlaces code_places(unsigned bits, LutLayout layout) {
  CodePlaces places;
  for (unsigned c = 0; c < kLutCols; ++c) {
    places[c] = layout == LutLayout::Tiles ? tile_place(bits, c) : row_place(bits, c);
  }
  return places;
}

/// Columns filled up to whole pieces.
constexpr size_t lut_padded(size_t cols) {
  return (cols + kLutCols - 1) / kLutCols * kLutCols;
}
/// Scales of a row.
constexpr size_t lut_groups(size_t cols, size_t group) {
  return lut_padded(cols) / group;
}
/// Bytes of the codes of 64 columns, of one row or of a tile.
constexpr size_t lut_piece_bytes(const LutKind& kind) {
  return size_t{8} * kind.bits * (kind.layout == LutLayout::Tiles ? kLutTileRows : 1);
}

/// In front of the codes of a row: its scale and those of its groups.
constexpr size_t lut_row_header(size_t cols, size_t group) {
  return (4 + lut_groups(cols, group) + 7) / 8 * 8;
}
/// Bytes of the scales of a tile for a block of `cols` columns, a multiple of 64.
constexpr size_t lut_scale_bytes(size_t cols, size_t group) {
  return (cols / group * kLutTileRows + 63) / 64 * 64;
}
/// Bytes of a tile's block of `cols` columns, a multiple of 64.
constexpr size_t lut_block_bytes(const LutKind& kind, size_t cols) {
  return lut_scale_bytes(cols, kind.group) + cols / kLutCols * lut_piece_bytes(kind);
}
/// Bytes of a row, or of a tile, in front of which are the scales of its rows.
constexpr size_t lut_unit_bytes(const LutKind& kind, size_t cols) {
  const size_t padded = lut_padded(cols);
  if (kind.layout == LutLayout::Rows) {
    return lut_row_header(cols, kind.group) + padded / kLutCols * lut_piece_bytes(kind);
  }
  const size_t rest = padded % kLutBlockCols;
  return 4 * kLutTileRows + padded / kLutBlockCols * lut_block_bytes(kind, kLutBlockCols) +
         (rest > 0 ? lut_block_bytes(kind, rest) : 0);
}

/// Where the scale of a group and the codes of a piece of 64 columns lie in a unit; of row 0 of a
/// tile, whose row i has its scale i bytes and its codes 4 i bytes further on.
constexpr size_t lut_scale_at(const LutKind& kind, size_t group) {
  if (kind.layout == LutLayout::Rows) {
    return 4 + group;
  }
  const size_t per_block = kLutBlockCols / kind.group;
  return 4 * kLutTileRows + group / per_block * lut_block_bytes(kind, kLutBlockCols) +
         group % per_block * kLutTileRows;
}
constexpr size_t lut_codes_at(const LutKind& kind, size_t cols, size_t piece) {
  if (kind.layout == LutLayout::Rows) {
    return lut_row_header(cols, kind.group) + piece * lut_piece_bytes(kind);
  }
  constexpr size_t kPerBlock = kLutBlockCols / kLutCols;
  const size_t block = piece / kPerBlock;
  const size_t left = lut_padded(cols) - block * kLutBlockCols;
  const size_t block_cols = left < kLutBlockCols ? left : kLutBlockCols;
  return 4 * kLutTileRows + block * lut_block_bytes(kind, kLutBlockCols) +
         lut_scale_bytes(block_cols, kind.group) + piece % kPerBlock * lut_piece_bytes(kind);
}

}  // namespace
}  // namespace rwkv

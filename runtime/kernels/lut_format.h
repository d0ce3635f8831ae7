// The kernel half of the lut codecs: where rows have their codes and scales
// (formats/codec/lut_layout.h).
#pragma once

#include <bit>

#include "formats/codec/lut_layout.h"
#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

/// A row by itself is summed in this many lanes, of columns 4 l .. 4 l + 3 of every piece; a row of
/// a tile in one.
constexpr size_t kLutLanes = 16;

/// A factor of sums of scaled rows, with 17 significant bits: its product with a value of a table,
/// which has at most seven, is exact, and sums are the same whether they are fused with it or not.
inline float short_factor(float x) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0xffffff80u);
}

/// Besides the members of every RowFormat:
///   kKind                     bits, layout, groups
///   row_scale(row)            what the sum of a row is multiplied with
///   group_scale(row, group)   an integer
/// affine() gives their product, for sums of scaled rows.
template <LutKind kLut>
struct LutFormat : PlainRows {
  static constexpr LutKind kKind = kLut;
  static constexpr InputForm kInputs = InputForm::ByteGroups;
  static constexpr Element kElement = Element::Packed;
  static constexpr size_t kGroup = kLut.group;
  static constexpr size_t kUnitRows = kLut.layout == LutLayout::Tiles ? kLutTileRows : 1;

  static float row_scale(const RowPlace& row) { return float_at(row.unit + 4 * row.in_unit); }
  static int32_t group_scale(const RowPlace& row, size_t group) {
    return static_cast<int8_t>(row.unit[lut_scale_at(kLut, group) + row.in_unit]);
  }
  static Affine affine(const RowPlace& row, size_t group) {
    return {row_scale(row) * static_cast<float>(group_scale(row, group)), 0.0f};
  }
};

}  // namespace
}  // namespace rwkv::edge

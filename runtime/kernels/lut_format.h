// The kernel half of the lut codecs: where rows have their codes and scales
// (formats/codec/lut_layout.h), for kernels that unpack a row at a time.
#pragma once

#include "formats/codec/lut_layout.h"
#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

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
  static constexpr CodePlaces kPlaces = code_places(kLut.bits, kLut.layout);

  static float row_scale(const RowPlace& row) { return float_at(row.unit + 4 * row.in_unit); }
  static int32_t group_scale(const RowPlace& row, size_t group) {
    return static_cast<int8_t>(row.unit[lut_scale_at(kLut, group) + row.in_unit]);
  }
  static Affine affine(const RowPlace& row, size_t group) {
    return {row_scale(row) * static_cast<float>(group_scale(row, group)), 0.0f};
  }
  static void unpack(const RowPlace& row, size_t first, size_t n, int8_t* out) {
    const size_t piece = first / kLutCols;
    const std::byte* const codes = row.unit + lut_codes_at(kLut, row.cols, piece) + 4 * row.in_unit;
    const CodePlace* const places = kPlaces.data() + first % kLutCols;
    for (size_t i = 0; i < n; ++i) {
      const CodePlace& place = places[i];
      const unsigned low = static_cast<unsigned>(codes[place.low_at]) >> place.low_shift;
      const unsigned high = static_cast<unsigned>(codes[place.high_at]) >> place.high_shift;
      const unsigned code = (low & ((1u << place.low_bits) - 1)) |
                            (high & ((1u << place.high_bits) - 1)) << place.low_bits;
      if constexpr (kLut.bits == 6) {
        out[i] = static_cast<int8_t>(static_cast<int>(code) + kUniformOffset);
      } else {
        out[i] = static_cast<int8_t>(row.shared[code]);
      }
    }
  }
};

}  // namespace
}  // namespace rwkv::edge

// What kernels must know of a codec: its kernel half. rows/NAME.h has that of codec NAME, as a
// specialisation of RowFormat; the generated row_formats.h includes them all. In unnamed
// namespaces, as everything that kernel sets share: each compiles it with its own instructions, and
// the linker must not take one's copy for another's.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>

#include "formats/base/little_endian.h"
#include "runtime/kernels/kernels.h"

namespace rwkv::edge {
namespace {

/// What the codes of a row are. Registers load all but Packed (a kernel set's Simd); a codec whose
/// codes no register loads unpacks them itself, for every kernel set at once.
enum class Element : uint8_t { F32, F16, I8, Bit, Packed };

/// Bytes of `n` elements; of bits a multiple of 8.
constexpr size_t bytes_of(Element element, size_t n) {
  switch (element) {
    case Element::F32:
      return n * 4;
    case Element::F16:
      return n * 2;
    case Element::I8:
      return n;
    case Element::Bit:
      return n / 8;
    case Element::Packed:
      break;
  }
  return 0;
}

/// Where a row lies.
struct RowPlace {
  const std::byte* shared;  ///< what all rows of the matrix share
  const std::byte* unit;    ///< the row, or the panel that it is in
  size_t in_unit;           ///< its number in the panel
  size_t cols;
};

/// A value is scale * code + offset.
struct Affine {
  float scale;
  float offset;
};

/// Of codec C:
///   kInputs   the form of the inputs that it is multiplied with
///   kElement  its codes
///   kGroup    columns that share scale and offset, a multiple of kSumCols; 0: the row
///   kUnitRows rows of a unit
///   kHeader   bytes in front of a row's codes, unless they are packed or in groups or panels
///   kDenseRows, kScatteredRows, kAddedRows
///             rows side by side: of a product with one token where rows follow one another and
///             where they do not, and of sums of scaled rows; powers of two up to 8
///   affine(row, group)
///             scale and offset of a group; of codecs whose inputs are floats 1 and 0, of those
///             whose inputs are bytes in groups an offset of 0
///   unpack(row, first, n, out)
///             of packed codes: columns [first, first + n), all of one group, as int8, or, where
///             inputs are floats, as values
template <Codec C>
struct RowFormat;

/// What most codecs have.
struct PlainRows {
  static constexpr size_t kGroup = 0;
  static constexpr size_t kUnitRows = 1;
  static constexpr size_t kHeader = 0;
  // With one token large rows come one after another: side by side they would be as many short
  // streams, which memory delivers at half the speed. Scattered rows are no stream anyway: more of
  // them in flight hide more latency.
  static constexpr size_t kDenseRows = 1;
  static constexpr size_t kScatteredRows = 4;
  static constexpr size_t kAddedRows = 8;
  static Affine affine(const RowPlace& /*row*/, size_t /*group*/) { return {1.0f, 0.0f}; }
};

inline float float_at(const std::byte* from) {
  float value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// Weights are finite (codecs refuse others), so infinities need no case here and loops vectorise.
inline float finite_half_at(const std::byte* from) {
  const auto half = load_le<uint16_t>(from);
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const float scaled = std::bit_cast<float>(static_cast<uint32_t>(half & 0x7fffu) << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

/// Element `i` of codes that are floats.
template <Element kElement>
inline float float_code(const std::byte* codes, size_t i) {
  static_assert(kElement == Element::F32 || kElement == Element::F16);
  if constexpr (kElement == Element::F32) {
    return load_le<float>(codes + 4 * i);
  } else {
    return finite_half_at(codes + 2 * i);
  }
}

/// As what kernels that unpack codes multiply them.
template <class Format>
using RowCode = std::conditional_t<Format::kInputs == InputForm::Floats, float, int8_t>;

/// Codes of columns [first, first + n), all of one group.
template <class Format>
inline void read_codes(const RowPlace& row, size_t first, size_t n, RowCode<Format>* out) {
  constexpr Element kElement = Format::kElement;
  if constexpr (kElement == Element::Packed) {
    Format::unpack(row, first, n, out);
  } else {
    static_assert(Format::kGroup == 0 && Format::kUnitRows == 1, "groups and panels are packed");
    const std::byte* const codes = row.unit + Format::kHeader;
    for (size_t i = 0; i < n; ++i) {
      const size_t c = first + i;
      if constexpr (kElement == Element::F32 || kElement == Element::F16) {
        out[i] = float_code<kElement>(codes, c);
      } else if constexpr (kElement == Element::I8) {
        out[i] = static_cast<int8_t>(codes[c]);
      } else {
        out[i] = static_cast<int8_t>(static_cast<unsigned>(codes[c / 8]) >> (c % 8) & 1u);
      }
    }
  }
}

/// Columns that share a scale and an offset.
template <class Format>
constexpr size_t group_cols(size_t cols) {
  static_assert(Format::kGroup % kSumCols == 0);
  return Format::kGroup == 0 ? cols : Format::kGroup;
}

}  // namespace
}  // namespace rwkv::edge

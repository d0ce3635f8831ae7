// Lut matrices and their bytes. How scales and codes are chosen is in lut_nearest.cpp.
#include "formats/codec/lut.h"

#include <algorithm>
#include <cmath>

#include "formats/base/little_endian.h"

namespace rwkv {
namespace {

template <LutLayout kLayout>
const CodePlaces& places_of_layout(unsigned bits) {
  static constexpr CodePlaces kPlaces[] = {code_places(2, kLayout), code_places(3, kLayout),
                                           code_places(4, kLayout), code_places(5, kLayout),
                                           code_places(6, kLayout)};
  return kPlaces[bits - 2];
}

const CodePlaces& places_of(const LutKind& kind) {
  return kind.layout == LutLayout::Tiles ? places_of_layout<LutLayout::Tiles>(kind.bits)
                                         : places_of_layout<LutLayout::Rows>(kind.bits);
}

// The row of a unit: which unit, and the number in it.
struct UnitRow {
  uint64_t unit;
  uint64_t row;
};
UnitRow unit_row(const LutKind& kind, uint64_t row) {
  return kind.layout == LutLayout::Tiles ? UnitRow{row / kLutTileRows, row % kLutTileRows}
                                         : UnitRow{row, 0};
}

void put_codes(const CodePlaces& places, std::span<const uint8_t> codes, std::byte* to) {
  for (size_t c = 0; c < codes.size(); ++c) {
    const CodePlace& place = places[c];
    const unsigned low = codes[c] & ((1u << place.low_bits) - 1);
    to[place.low_at] |= static_cast<std::byte>(low << place.low_shift);
    to[place.high_at] |= static_cast<std::byte>(static_cast<unsigned>(codes[c]) >>
                                                place.low_bits << place.high_shift);
  }
}

void take_codes(const CodePlaces& places, const std::byte* from, std::span<uint8_t> codes) {
  for (size_t c = 0; c < codes.size(); ++c) {
    const CodePlace& place = places[c];
    const unsigned low = static_cast<unsigned>(from[place.low_at]) >> place.low_shift;
    const unsigned high = static_cast<unsigned>(from[place.high_at]) >> place.high_shift;
    codes[c] = static_cast<uint8_t>((low & ((1u << place.low_bits) - 1)) |
                                    (high & ((1u << place.high_bits) - 1)) << place.low_bits);
  }
}

// A row of a unit, at what is constant for it.
class PackedRow {
 public:
  PackedRow(const LutKind& kind, uint64_t cols, uint64_t row_in_unit)
      : kind_(kind), cols_(cols), row_(row_in_unit), places_(places_of(kind)) {}

  size_t scale_at() const { return 4 * row_; }
  size_t group_scale_at(uint64_t group) const { return lut_scale_at(kind_, group) + row_; }
  uint64_t n_pieces() const { return lut_padded(cols_) / kLutCols; }
  size_t codes_at(uint64_t piece) const { return lut_codes_at(kind_, cols_, piece) + 4 * row_; }
  uint64_t cols_of(uint64_t piece) const { return std::min(kLutCols, cols_ - piece * kLutCols); }
  const CodePlaces& places() const { return places_; }

 private:
  const LutKind& kind_;
  uint64_t cols_;
  uint64_t row_;
  const CodePlaces& places_;
};

void pack_row(const LutMatrix& matrix, const LutKind& kind, uint64_t row, std::byte* units) {
  const auto [unit, in_unit] = unit_row(kind, row);
  std::byte* const to = units + unit * lut_unit_bytes(kind, matrix.cols);
  const PackedRow packed(kind, matrix.cols, in_unit);
  store_le(to + packed.scale_at(), matrix.row_scales[row]);
  const uint64_t n_groups = lut_n_groups(kind, matrix.cols);
  for (uint64_t g = 0; g < n_groups; ++g) {
    to[packed.group_scale_at(g)] = static_cast<std::byte>(matrix.scales[row * n_groups + g]);
  }
  const std::span<const uint8_t> codes(matrix.codes);
  for (uint64_t piece = 0; piece < packed.n_pieces(); ++piece) {
    put_codes(packed.places(),
              codes.subspan(row * matrix.cols + piece * kLutCols, packed.cols_of(piece)),
              to + packed.codes_at(piece));
  }
}

LutTable read_table(const LutKind& kind, const std::byte* shared) {
  if (kind.bits == 6) {
    return lut_table(6);
  }
  LutTable table = {};
  for (size_t i = 0; i < size_t{1} << kind.bits; ++i) {
    table[i] = static_cast<int8_t>(shared[i]);
  }
  return table;
}

void write_header(const LutKind& kind, const LutTable& table, std::byte* to) {
  std::fill_n(to, kLutHeader, std::byte{0});
  for (size_t i = 0; kind.bits < 6 && i < size_t{1} << kind.bits; ++i) {
    to[i] = static_cast<std::byte>(table[i]);
  }
  to[kLutBitsAt] = static_cast<std::byte>(kind.bits);
  to[kLutLayoutAt] = static_cast<std::byte>(kind.layout);
  store_le(to + kLutGroupAt, static_cast<uint16_t>(kind.group));
}

Status check_matrix(const LutMatrix& matrix, const LutKind& kind, const char* codec) {
  const uint64_t n_groups = lut_n_groups(kind, matrix.cols);
  if (matrix.codes.size() != matrix.rows * matrix.cols || matrix.row_scales.size() != matrix.rows ||
      matrix.scales.size() != matrix.rows * n_groups) {
    return bad_input(
        "{} of {} rows and {} columns has {} codes, {} scales of groups and {} of rows, expected "
        "{}, {} and {}",
        codec, matrix.rows, matrix.cols, matrix.codes.size(), matrix.scales.size(),
        matrix.row_scales.size(), matrix.rows * matrix.cols, matrix.rows * n_groups, matrix.rows);
  }
  const auto end = matrix.table.begin() + (1 << kind.bits);
  const auto value =
      std::find_if(matrix.table.begin(), end, [](int8_t v) { return v < kLutLow || v > kLutHigh; });
  if (value != end || (kind.bits == 6 && matrix.table != lut_table(6))) {
    return bad_input("the table of a {} matrix has a value out of range, expected {} to {}{}",
                     codec, kLutLow, kLutHigh, kind.bits == 6 ? ", and with 6 bits code - 32" : "");
  }
  const auto code = std::find_if(matrix.codes.begin(), matrix.codes.end(),
                                 [&](uint8_t c) { return c >> kind.bits != 0; });
  if (code != matrix.codes.end()) {
    const auto at = static_cast<uint64_t>(code - matrix.codes.begin());
    return bad_input("row {}, column {} has the code {}, expected less than {} in {}",
                     at / matrix.cols, at % matrix.cols, *code, 1 << kind.bits, codec);
  }
  for (uint64_t r = 0; r < matrix.rows; ++r) {
    if (!std::isfinite(matrix.row_scales[r])) {
      return bad_input("row {} has the scale {}, expected a finite number", r,
                       matrix.row_scales[r]);
    }
  }
  const auto scale = std::find(matrix.scales.begin(), matrix.scales.end(), int8_t{-128});
  if (scale != matrix.scales.end()) {
    return bad_input("row {} has a group with the scale -128, expected -127 to 127",
                     static_cast<uint64_t>(scale - matrix.scales.begin()) / n_groups);
  }
  return {};
}

}  // namespace

uint64_t lut_n_groups(const LutKind& kind, uint64_t cols) {
  return lut_groups(cols, kind.group);
}

LutTable lut_table(unsigned bits) {
  switch (bits) {
    case 2:
      return {-64, -19, 19, 63};
    case 3:
      return {-64, -40, -22, -7, 7, 22, 40, 63};
    case 4:
      return {-64, -48, -37, -29, -22, -15, -9, -3, 3, 9, 16, 22, 29, 38, 48, 63};
    case 5:
      return {-64, -53, -45, -39, -34, -30, -26, -23, -19, -16, -13, -11, -8, -6, -4, -1,
              1,   4,   6,   8,   11,  13,  16,  19,  23,  26,  30,  34,  39, 45, 53, 63};
    default:
      break;
  }
  LutTable table = {};
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = static_cast<int8_t>(static_cast<int>(i) + kUniformOffset);
  }
  return table;
}

LutMatrix lut_matrix(const LutKind& kind, uint64_t rows, uint64_t cols) {
  LutMatrix matrix;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.codes.resize(rows * cols);
  matrix.scales.resize(rows * lut_n_groups(kind, cols));
  matrix.row_scales.resize(rows);
  matrix.table = lut_table(kind.bits);
  return matrix;
}

Status lut_pack(const LutMatrix& matrix, Codec codec, std::span<std::byte> out) {
  const CodecTraits& traits = codec_traits(codec);
  if (!traits.lut) {
    return bad_input("codes of a table do not fit {}, expected a lut codec", traits.name);
  }
  RWKV_TRY(check_matrix(matrix, *traits.lut, traits.name));
  if (out.size() != traits.encoded_bytes(matrix.rows, matrix.cols)) {
    return bad_input("{} rows of {} columns in {} take {} bytes, found room for {}", matrix.rows,
                     matrix.cols, traits.name, traits.encoded_bytes(matrix.rows, matrix.cols),
                     out.size());
  }
  std::fill(out.begin(), out.end(), std::byte{0});
  write_header(*traits.lut, matrix.table, out.data());
  for (uint64_t row = 0; row < matrix.rows; ++row) {
    pack_row(matrix, *traits.lut, row, out.data() + kLutHeader);
  }
  return {};
}

LutMatrix lut_unpack(const MatrixView& w) {
  const LutKind& kind = *codec_traits(w.codec).lut;
  LutMatrix matrix = lut_matrix(kind, w.rows, w.cols);
  matrix.table = read_table(kind, w.shared);
  const uint64_t n_groups = lut_n_groups(kind, w.cols);
  const std::span<uint8_t> codes(matrix.codes);
  for (uint64_t row = 0; row < w.rows; ++row) {
    const auto [unit, in_unit] = unit_row(kind, row);
    const std::byte* const from = w.units + unit * lut_unit_bytes(kind, w.cols);
    const PackedRow packed(kind, w.cols, in_unit);
    matrix.row_scales[row] = load_le<float>(from + packed.scale_at());
    for (uint64_t g = 0; g < n_groups; ++g) {
      matrix.scales[row * n_groups + g] = static_cast<int8_t>(from[packed.group_scale_at(g)]);
    }
    for (uint64_t piece = 0; piece < packed.n_pieces(); ++piece) {
      take_codes(packed.places(), from + packed.codes_at(piece),
                 codes.subspan(row * w.cols + piece * kLutCols, packed.cols_of(piece)));
    }
  }
  return matrix;
}

void lut_values(const LutKind& kind, const std::byte* shared, const std::byte* codes,
                int8_t (&out)[kLutCols]) {
  uint8_t found[kLutCols];
  take_codes(places_of(kind), codes, found);
  for (size_t i = 0; i < kLutCols; ++i) {
    out[i] = kind.bits == 6 ? static_cast<int8_t>(found[i] + kUniformOffset)
                            : static_cast<int8_t>(shared[found[i]]);
  }
}

LutRow lut_row(LutMatrix& matrix, uint64_t row) {
  const uint64_t n_groups = matrix.scales.size() / matrix.rows;
  return {matrix.row_scales[row], std::span(matrix.scales).subspan(row * n_groups, n_groups),
          std::span(matrix.codes).subspan(row * matrix.cols, matrix.cols)};
}

Status lut_encode(Codec codec, std::span<const float> values, const MatrixShape& shape,
                  std::span<std::byte> out) {
  const CodecTraits& traits = codec_traits(codec);
  RWKV_TRY(check_finite(values, shape, kMostLut, traits.name));
  const LutKind& kind = *traits.lut;
  LutMatrix matrix = lut_matrix(kind, shape.rows, shape.cols);
  const LutCodebook codebook(matrix.table, kind.bits);
  for (uint64_t r = 0; r < shape.rows; ++r) {
    lut_nearest_row(values.subspan(r * shape.cols, shape.cols), {}, codebook, kind.group,
                    lut_row(matrix, r));
  }
  return lut_pack(matrix, codec, out);
}

void lut_decode_rows(const LutKind& kind, const MatrixView& w, uint64_t first, uint64_t n,
                     std::span<float> out) {
  const LutTable table = read_table(kind, w.shared);
  for (uint64_t r = 0; r < n; ++r) {
    const auto [unit, in_unit] = unit_row(kind, first + r);
    const std::byte* const from = w.units + unit * lut_unit_bytes(kind, w.cols);
    const PackedRow packed(kind, w.cols, in_unit);
    const auto row_scale = load_le<float>(from + packed.scale_at());
    for (uint64_t piece = 0; piece < packed.n_pieces(); ++piece) {
      std::array<uint8_t, kLutCols> codes;
      const uint64_t n_cols = packed.cols_of(piece);
      take_codes(packed.places(), from + packed.codes_at(piece), std::span(codes).first(n_cols));
      for (uint64_t c = 0; c < n_cols; ++c) {
        const uint64_t col = piece * kLutCols + c;
        const int scale = static_cast<int8_t>(from[packed.group_scale_at(col / kind.group)]);
        out[r * w.cols + col] = row_scale * static_cast<float>(scale * table[codes[c]]);
      }
    }
  }
}

// What is known without the original: neither value is beyond the largest of the row.
double lut_error_bound(const LutKind& kind, const MatrixView& w, uint64_t row, float value) {
  const auto [unit, in_unit] = unit_row(kind, row);
  const std::byte* const from = w.units + unit * lut_unit_bytes(kind, w.cols);
  const auto row_scale = load_le<float>(from + PackedRow(kind, w.cols, in_unit).scale_at());
  return std::fabs(static_cast<double>(value)) +
         std::fabs(static_cast<double>(row_scale)) * 127 * -kLutLow;
}

Status lut_check_shared(Codec codec, std::span<const std::byte> shared) {
  const CodecTraits& traits = codec_traits(codec);
  const LutKind& kind = *traits.lut;
  const auto group = load_le<uint16_t>(shared.data() + kLutGroupAt);
  if (static_cast<uint8_t>(shared[kLutBitsAt]) != kind.bits ||
      static_cast<uint8_t>(shared[kLutLayoutAt]) != static_cast<uint8_t>(kind.layout) ||
      group != kind.group) {
    return bad_input(
        "its header says {} bits, layout {}, groups of {}; expected {}, {}, {} in {}; the file is "
        "damaged",
        static_cast<uint8_t>(shared[kLutBitsAt]), static_cast<uint8_t>(shared[kLutLayoutAt]), group,
        kind.bits, static_cast<uint8_t>(kind.layout), kind.group, traits.name);
  }
  for (size_t i = 0; i < kLutTable; ++i) {
    const int value = static_cast<int8_t>(shared[i]);
    const bool is_used = kind.bits < 6 && i < size_t{1} << kind.bits;
    if (is_used ? value < kLutLow || value > kLutHigh : value != 0) {
      return bad_input("value {} of its table is {}, expected {} in {}; the file is damaged", i,
                       value, is_used ? "-64 to 63" : "0", traits.name);
    }
  }
  return {};
}

}  // namespace rwkv

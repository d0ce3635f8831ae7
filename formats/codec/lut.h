// Matrices as codes into a small table, with a scale for each group of columns and one for each
// row: what the lut codecs hold. w[r][c] = row_scales[r] * (scales[r][c / group] * table[code]).
// Quantizers choose the parts of a LutMatrix; lut_pack() lays them into bytes as they are.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "formats/codec/codec.h"
#include "formats/codec/lut_layout.h"

namespace rwkv {

/// Values of the codes, from kLutLow to kLutHigh; with 6 bits code - 32 and no other.
using LutTable = std::array<int8_t, kLutCols>;

/// A quantised matrix, independent of its layout.
struct LutMatrix {
  uint64_t rows = 0;
  uint64_t cols = 0;
  std::vector<uint8_t> codes;     ///< [rows][cols]
  std::vector<int8_t> scales;     ///< [rows][n_groups], -127 .. 127; negative mirrors the table
  std::vector<float> row_scales;  ///< [rows], finite; 0 in a row of zeros
  LutTable table = {};
};

/// Scales of a row. What distinguishes the lut codecs is CodecTraits::lut.
uint64_t lut_n_groups(const LutKind& kind, uint64_t cols);

/// The table that encode() takes: the points of least squared error for normally distributed
/// values (Lloyd, Max), in steps of 1/64 of the largest; with 6 bits code - 32.
LutTable lut_table(unsigned bits);

/// The largest magnitude that encode() takes.
inline constexpr float kMostLut = 1e38f;

/// An empty matrix (zeros everywhere) for a codec, with its table.
LutMatrix lut_matrix(const LutKind& kind, uint64_t rows, uint64_t cols);

/// Lays a matrix into `out`, of encoded_bytes(rows, cols), exactly as it is. BadInput if `codec` is
/// no lut codec or cannot hold it: wrong sizes, codes or table out of range, scales of -128 or that
/// are not finite.
Status lut_pack(const LutMatrix& matrix, Codec codec, std::span<std::byte> out);

/// The parts of an encoded matrix: what was packed.
LutMatrix lut_unpack(const MatrixView& w);

/// Finds the nearest code of a value, by its place among the values of the table.
class LutCodebook {
 public:
  LutCodebook(const LutTable& table, unsigned bits);
  /// Of `value` / (row scale * scale): ties go to the greater value.
  uint8_t nearest(float value) const {
    const float cell = 2.0f * value + static_cast<float>(kCells / 2);
    const float within = cell < 0.0f ? 0.0f : cell > kLastCell ? kLastCell : cell;
    return codes_[static_cast<size_t>(within)];
  }
  float value(uint8_t code) const { return values_[code]; }
  /// The greatest magnitude in the table.
  float most() const { return most_; }

 private:
  // Halfway between two integers is a multiple of 1/2, so cells of 1/2 have one nearest code each.
  static constexpr size_t kCells = 512;
  static constexpr float kLastCell = kCells - 1;
  std::array<uint8_t, kCells> codes_ = {};
  std::array<float, kLutCols> values_ = {};
  float most_ = 0;
};

/// The parts of a row in a LutMatrix, for those who fill it.
struct LutRow {
  float& row_scale;
  std::span<int8_t> scales;
  std::span<uint8_t> codes;
};
LutRow lut_row(LutMatrix& matrix, uint64_t row);

/// Chooses scales and codes of a row by least squared error, each column weighted with `weights`
/// (as many as the row has; empty: equally). A group tries 25 scales, from 0.55 to 1.15 of the one
/// that its largest value would need, with both signs; then the best is fitted to its codes, and
/// rounded to the row's steps with the least error. All values are finite, at most kMostLut.
void lut_nearest_row(std::span<const float> row, std::span<const float> weights,
                     const LutCodebook& codebook, unsigned group, const LutRow& out);

/// The codes of a row whose scales are chosen.
void lut_nearest_codes(std::span<const float> row, const LutCodebook& codebook, unsigned group,
                       const LutRow& out);

/// The 64 values of a piece of a row: table[code]. `codes` is where the piece lies, of row i of a
/// tile 4 i bytes further on.
void lut_values(const LutKind& kind, const std::byte* shared, const std::byte* codes,
                int8_t (&out)[kLutCols]);

// What the traits of a lut codec consist of (lut_codec.h).
Status lut_encode(Codec codec, std::span<const float> values, const MatrixShape& shape,
                  std::span<std::byte> out);
void lut_decode_rows(const LutKind& kind, const MatrixView& w, uint64_t first, uint64_t n,
                     std::span<float> out);
double lut_error_bound(const LutKind& kind, const MatrixView& w, uint64_t row, float value);
Status lut_check_shared(Codec codec, std::span<const std::byte> shared);

}  // namespace rwkv

// Lays codes and scales into ggml's blocks, the inverse of formats/container/ggml_blocks and
// ggml_super_blocks. Only the layout is here; block_rounding chooses codes and scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace rwkv::press {

/// One row of a matrix, of whole blocks. Codes are those of the file, without sign.
struct BlockRow {
  std::span<const uint8_t> codes;
  /// Scales of the groups: of Q4_0 and IQ4_NL half floats.
  std::span<const float> steps;
};

/// Q4_0 and IQ4_NL, whose blocks lie alike: appends the blocks of a row.
void append_blocks_of_4_bits(const BlockRow& row, std::vector<std::byte>& out);

/// A row in Q8_0, rounded to nearest with the scale of the largest value of each block.
void append_q8_0(std::span<const float> values, std::vector<std::byte>& out);

/// What a super-block of 256 values has besides codes, as integers times half floats.
struct SuperScales {
  float unit = 0;     ///< of the scales, a half float
  float minimum = 0;  ///< unit of the minima, a half float; Q4_K only
  std::span<const int> scales;
  std::span<const int> minima;  ///< Q4_K only
};

/// Q6_K: 256 codes 0..63 of values -32..31, 16 scales of -128..127.
void append_q6_k(std::span<const uint8_t> codes, const SuperScales& scales,
                 std::vector<std::byte>& out);
/// Q4_K: 256 codes 0..15, 8 scales and 8 minima of 0..63.
void append_q4_k(std::span<const uint8_t> codes, const SuperScales& scales,
                 std::vector<std::byte>& out);

}  // namespace rwkv::press

// How one row of each codec becomes floats, for the generic kernels: a number is
// scale() * row[i] + offset().
#pragma once

#include <cstring>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "runtime/kernels/kernels.h"

namespace rwkv::edge::generic {

// Numbers are summed in this many interleaved lanes, which compilers turn into vectors.
inline constexpr size_t kLanes = 16;

// Weights are finite (codecs refuse others), so infinities need no case here and the loop
// vectorises.
inline float finite_f16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const float scaled = std::bit_cast<float>(static_cast<uint32_t>(half & 0x7fffu) << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

inline uint64_t unit_bytes(const MatrixView& w) {
  return codec_traits(w.codec).unit_bytes(w.cols);
}

/// Rows that are their numbers and nothing else.
struct PlainRow {
  float scale() const { return 1.0f; }
  float offset() const { return 0.0f; }
};

struct RowF32 : PlainRow {
  const std::byte* at;
  RowF32(const MatrixView& w, uint64_t row) : at(w.units + row * w.cols * 4) {}
  float operator[](size_t i) const { return load_le<float>(at + i * 4); }
};

struct RowF16 : PlainRow {
  const std::byte* at;
  RowF16(const MatrixView& w, uint64_t row) : at(w.units + row * w.cols * 2) {}
  float operator[](size_t i) const { return finite_f16(load_le<uint16_t>(at + i * 2)); }
};

struct RowI8 {
  const std::byte* at;
  RowI8(const MatrixView& w, uint64_t row) : at(w.units + row * unit_bytes(w) + kI8RowHeader) {}
  int32_t whole(size_t i) const { return static_cast<int8_t>(at[i]); }
  float operator[](size_t i) const { return static_cast<float>(whole(i)); }
  float scale() const { return load_le<float>(at - kI8RowHeader); }
  float offset() const { return load_le<float>(at - kI8RowHeader + kI8RowOffsetAt); }
};

struct RowMm8 : PlainRow {
  const std::byte* at;
  const std::byte* col_scale;
  const std::byte* col_offset;
  float row_scale;
  float row_offset;
  RowMm8(const MatrixView& w, uint64_t row) {
    const std::byte* const start = w.units + row * (w.cols + 8);
    at = start + 8;
    col_scale = w.shared;
    col_offset = w.shared + w.cols * 4;
    row_scale = load_le<float>(start);
    row_offset = load_le<float>(start + 4);
  }
  float operator[](size_t i) const {
    const auto q = static_cast<float>(static_cast<uint8_t>(at[i]));
    return (q + 0.5f) * row_scale * load_le<float>(col_scale + i * 4) + row_offset +
           load_le<float>(col_offset + i * 4);
  }
};

struct RowSign {
  const std::byte* at;
  RowSign(const MatrixView& w, uint64_t row) : at(w.units + row * unit_bytes(w) + kSignRowHeader) {}
  int32_t whole(size_t i) const {
    return static_cast<int32_t>((static_cast<unsigned>(at[i / 8]) >> (i % 8)) & 1u);
  }
  float operator[](size_t i) const { return static_cast<float>(whole(i)); }
  float scale() const {
    return finite_f16(load_le<uint16_t>(at - kSignRowHeader + kSignRowHighAt)) - offset();
  }
  float offset() const { return finite_f16(load_le<uint16_t>(at - kSignRowHeader)); }
};

/// The matrix as a source of rows for the loops that all products share: `row(i)` and the place of
/// its result.
template <typename Row>
struct DenseRows {
  const MatrixView& w;
  Row row(size_t i) const { return Row(w, i); }
  size_t id(size_t i) const { return i; }
};

template <typename Row>
struct GatheredRows {
  const RowsView& w;
  Row row(size_t i) const { return Row(MatrixView{w.shared, w.rows[i], w.codec, 1, w.cols}, 0); }
  size_t id(size_t i) const { return w.ids[i]; }
};

}  // namespace rwkv::edge::generic

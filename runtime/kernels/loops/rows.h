// Where the rows of a product lie and what is in front of their numbers, for the vectorised tables.
// Everything in this folder is in an unnamed namespace: each table compiles it with its own
// instructions, and the linker must not take one's copy for another's.
#pragma once

#include <cstring>

#include "formats/base/half.h"
#include "runtime/kernels/kernels.h"

namespace rwkv::edge {
namespace {

// Bytes between what is used and what is asked for of a stream; less comes too late, more drops out
// of the nearest cache again.
constexpr size_t kAhead = 1024;

struct DenseRows {
  static constexpr bool kScattered = false;
  const std::byte* first;
  size_t row_bytes;
  size_t n;
  const std::byte* at(size_t i) const { return first + i * row_bytes; }
  /// What will be wanted a little after the same place of row i.
  const std::byte* ahead(size_t i) const { return at(i) + kAhead; }
  size_t id(size_t i) const { return i; }
};

template <RowsLie kLie>
struct GatheredRows {
  static constexpr bool kScattered = kLie == RowsLie::HereAndThere;
  static constexpr size_t kRowsAhead = 8;
  const std::byte* const* rows;
  const uint32_t* ids;
  size_t n;
  const std::byte* at(size_t i) const { return rows[i]; }
  const std::byte* ahead(size_t i) const {
    if constexpr (kScattered) {
      return rows[i + kRowsAhead < n ? i + kRowsAhead : i];
    } else {
      return rows[i] + kAhead;
    }
  }
  size_t id(size_t i) const { return ids[i]; }
};

/// Whether what lies ahead is asked for by software. Rows here and there always are; whether a
/// stream is the better for it is the processor's matter (kAsks of a table's Simd).
template <class S, class Rows>
inline constexpr bool kAsksFor = S::kAsks || Rows::kScattered;

inline DenseRows dense_rows(const MatrixView& w) {
  return {w.units, codec_traits(w.codec).unit_bytes(w.cols), w.rows};
}

inline float float_at(const std::byte* from) {
  float value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline uint16_t half_bits(const std::byte* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}

inline float half_at(const std::byte* from) {
  return f16_to_f32(half_bits(from));
}

/// A number of a row is scale * q + offset, with q what `numbers` holds.
struct Row {
  const std::byte* numbers;
  float scale;
  float offset;
};

/// The product of a row with token `t` whose whole products sum to `total`.
inline float product_with(const Row& row, const Inputs& x, size_t t, int64_t total) {
  return row.scale * (x.step[t] * static_cast<float>(total)) + row.offset * x.sum[t];
}

template <Codec kCodec>
inline Row row_of(const std::byte* start) {
  if constexpr (kCodec == Codec::I8Row) {
    return {start + kI8RowHeader, float_at(start), float_at(start + kI8RowOffsetAt)};
  } else if constexpr (kCodec == Codec::SignRow) {
    const float low = half_at(start);
    return {start + kSignRowHeader, half_at(start + kSignRowHighAt) - low, low};
  } else {
    return {start, 1.0f, 0.0f};
  }
}

}  // namespace
}  // namespace rwkv::edge

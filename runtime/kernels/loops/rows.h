// The places of the rows of a product, for all kernel sets.
#pragma once

#include "runtime/kernels/row_format.h"

namespace rwkv::edge {
namespace {

// Bytes between the used and the prefetched part of a stream; with less, prefetches arrive too
// late, with more, lines leave the nearest cache before use.
constexpr size_t kPrefetchDistance = 1024;

/// Rows one after another, kUnitRows in a unit.
template <size_t kUnitRows>
struct DenseRows {
  static constexpr bool kScattered = false;
  const std::byte* shared;
  const std::byte* first;
  size_t unit_bytes;
  size_t cols;
  const std::byte* at(size_t i) const { return first + i / kUnitRows * unit_bytes; }
  RowPlace place(size_t i) const { return {shared, at(i), i % kUnitRows, cols}; }
  /// The bytes that will be used a little after the same place of row i.
  const std::byte* ahead(size_t i) const { return at(i) + kPrefetchDistance; }
  size_t id(size_t i) const { return i; }
};

template <size_t kUnitRows>
inline DenseRows<kUnitRows> dense_rows(const MatrixView& w) {
  return {w.shared, w.units, codec_traits(w.codec).unit_bytes(w.cols), w.cols};
}

/// Single rows at any places.
template <RowOrder kOrder>
struct GatheredRows {
  static constexpr bool kScattered = kOrder == RowOrder::Scattered;
  static constexpr size_t kRowsAhead = 8;
  const RowsView& w;
  const std::byte* at(size_t i) const { return w.rows[i]; }
  RowPlace place(size_t i) const { return {w.shared, w.rows[i], 0, w.cols}; }
  const std::byte* ahead(size_t i) const {
    if constexpr (kScattered) {
      return w.rows[i + kRowsAhead < w.n ? i + kRowsAhead : i];
    } else {
      return w.rows[i] + kPrefetchDistance;
    }
  }
  size_t id(size_t i) const { return w.ids[i]; }
};

/// Whether software prefetches ahead. It always does for scattered rows; whether it helps a stream
/// depends on the processor (kPrefetches of a set's Simd).
template <class S, class Rows>
inline constexpr bool kPrefetchesFor = S::kPrefetches || Rows::kScattered;

/// A row of one group, and the meaning of its codes.
struct Row {
  const std::byte* codes;
  Affine affine;
};

template <class Format>
inline Row row_of(const RowPlace& place) {
  return {place.unit + Format::kHeader, Format::affine(place, 0)};
}

/// The product of a row of one group with token `t`, whose integer products sum to `total`.
inline float product_with(const Affine& affine, const Inputs& x, size_t t, int64_t total) {
  return affine.scale * (x.step[t] * static_cast<float>(total)) + affine.offset * x.sum[t];
}

/// The sum of token `t`'s inputs in columns [begin, end), a group.
inline float sum_of_group(const Inputs& x, size_t t, size_t begin, size_t end) {
  const float* const sums = x.group_sums + t * n_group_sums(x.cols);
  float sum = 0.0f;
  for (size_t i = begin / kSumCols; i * kSumCols < end; ++i) {
    sum += sums[i];
  }
  return sum;
}

/// The part of a group in the product of its row with token `t`.
template <class Format>
inline float group_product(const Affine& affine, const Inputs& x, size_t t, size_t begin,
                           size_t end, int64_t total) {
  if constexpr (Format::kGroup == 0) {
    return product_with(affine, x, t, total);
  } else {
    return affine.scale * (x.step[t] * static_cast<float>(total)) +
           affine.offset * sum_of_group(x, t, begin, end);
  }
}

/// Columns of a row that are unpacked at a time.
constexpr size_t kUnpackedCols = 256;

/// Calls part(group, begin, end, is_last) for columns [begin, end) of a row in parts of at most
/// kUnpackedCols, each of one group, the last of a group marked.
template <class Format, class Part>
inline void each_part(size_t begin, size_t end, size_t cols, const Part& part) {
  const size_t group = group_cols<Format>(cols);
  for (size_t at = begin; at < end;) {
    const size_t g = at / group;
    const size_t group_end = g * group + group < end ? g * group + group : end;
    const size_t next = at + kUnpackedCols < group_end ? at + kUnpackedCols : group_end;
    part(g, at, next, next == group_end);
    at = next;
  }
}

}  // namespace
}  // namespace rwkv::edge

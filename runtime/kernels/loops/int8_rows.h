// Rows of int8 times one token: decoding, which memory ought to bound.
#pragma once

#include "runtime/kernels/loops/int_products.h"

namespace rwkv::edge {
namespace {

// Rows of int8 times one token, as pairs of 16 bits. A kernel set may have something better: a
// `Stream` with the same members.
template <class S>
class PairStream {
 public:
  static constexpr size_t kMostCols = SIZE_MAX;
  /// The most columns that side_by_side() takes.
  static constexpr size_t kMostSideBySide = kProductsPerLane * S::kLanes;
  PairStream(const int16_t* q, size_t cols) : q_(q), cols_(cols) {}

  /// The integer products of a row. Meanwhile it prefetches `ahead` of the row, up to the line of
  /// its last codes.
  template <bool kPrefetches>
  int64_t row(const std::byte* codes, const std::byte* ahead) const {
    constexpr size_t kPart = kProductsPerLane * S::kLanes;
    int64_t total = 0;
    for (size_t c = 0; c < cols_; c += kPart) {
      total +=
          part<kPrefetches>(codes + c, ahead + c, q_ + c, cols_ - c < kPart ? cols_ - c : kPart);
    }
    if constexpr (kPrefetches) {
      __builtin_prefetch(ahead + cols_);
    }
    return total;
  }

  /// The same of four rows, one after another.
  template <bool kPrefetches>
  void four_in_turn(const std::byte* const (&codes)[4], const std::byte* const (&ahead)[4],
                    int64_t (&totals)[4]) const {
    for (size_t r = 0; r < 4; ++r) {
      totals[r] = row<kPrefetches>(codes[r], ahead[r]);
    }
  }

  /// Of R rows, four or eight, of at most kMostSideBySide columns.
  template <bool kPrefetches, size_t R>
  void side_by_side(const std::byte* const (&codes)[R], const std::byte* const (&ahead)[R],
                    int64_t (&totals)[R]) const {
    const size_t even = cols_ / S::kInts * S::kInts;
    typename S::Acc sums[R];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      sums[r] = S::no_products();
    }
    for (size_t c = 0; c < even; c += S::kInts) {
      if (kPrefetches && c % kCacheLine == 0) {
#pragma GCC unroll 8
        for (size_t r = 0; r < R; ++r) {
          __builtin_prefetch(ahead[r] + c, 0, 2);
        }
      }
      const auto xs = S::load_ints(q_ + c);
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        sums[r] = S::dot(sums[r], S::template ints<Element::I8>(codes[r] + c), xs);
      }
    }
    for (size_t r = 0; kPrefetches && r < R; ++r) {
      __builtin_prefetch(ahead[r] + cols_, 0, 2);
    }
    if (even < cols_) {
      // Do not read past the end of a row.
      std::byte rest[R][S::kInts] = {};
      const auto xs = S::load_ints(q_ + even);
#pragma GCC unroll 8
      for (size_t r = 0; r < R; ++r) {
        std::memcpy(rest[r], codes[r] + even, cols_ - even);
        sums[r] = S::dot(sums[r], S::template ints<Element::I8>(rest[r]), xs);
      }
    }
    if (cols_ > kProductsPerLane) {
      for (size_t r = 0; r < R; ++r) {
        totals[r] = S::template total<Element::I8>(sums[r]);
      }
      return;
    }
#pragma GCC unroll 2
    for (size_t r = 0; r < R; r += 4) {
      S::four_totals({sums[r], sums[r + 1], sums[r + 2], sums[r + 3]}, totals + r);
    }
  }

 private:
  template <bool kPrefetches>
  static int64_t part(const std::byte* row, const std::byte* ahead, const int16_t* q, size_t n) {
    constexpr size_t kSums = 4;
    constexpr size_t kStep = kSums * S::kInts;
    typename S::Acc sums[kSums];
#pragma GCC unroll 8
    for (size_t s = 0; s < kSums; ++s) {
      sums[s] = S::no_products();
    }
    size_t i = 0;
    for (; i + kStep <= n; i += kStep) {
      for (size_t line = 0; kPrefetches && line < kStep; line += kCacheLine) {
        __builtin_prefetch(ahead + i + line);
      }
#pragma GCC unroll 8
      for (size_t s = 0; s < kSums; ++s) {
        const size_t at = i + s * S::kInts;
        sums[s] = S::dot(sums[s], S::template ints<Element::I8>(row + at), S::load_ints(q + at));
      }
    }
    const auto all = S::join(S::join(sums[0], sums[1]), S::join(sums[2], sums[3]));
    int64_t totals[1][1] = {{S::template total<Element::I8>(all)}};
    if (i < n) {
      const std::byte* const rest[] = {row + i};
      add_int_products<S, Element::I8, 1, 1>(rest, q + i, 0, n - i, totals);
    }
    return totals[0][0];
  }

  const int16_t* q_;
  size_t cols_;
};

constexpr size_t kRowsInTurn = 4;

// Rows [begin, end) of int8 times one token, in one stream. The other work of a row is done for
// four rows at once: the fewer instructions between loads, the more loads are in flight.
template <class S, class Stream, class Format, class Rows>
[[gnu::noinline]] void stream_rows(const Rows& w, const Inputs& x, size_t token, float* y,
                                   size_t begin, size_t end) {
  const Stream stream(x.q + token * padded_cols(x.cols), x.cols);
  size_t i = begin;
  for (; i + kRowsInTurn <= end; i += kRowsInTurn) {
    const std::byte* codes[kRowsInTurn];
    const std::byte* ahead[kRowsInTurn];
    for (size_t r = 0; r < kRowsInTurn; ++r) {
      codes[r] = w.at(i + r) + Format::kHeader;
      ahead[r] = w.ahead(i + r);
    }
    int64_t totals[kRowsInTurn];
    stream.template four_in_turn<kPrefetchesFor<S, Rows>>(codes, ahead, totals);
    for (size_t r = 0; r < kRowsInTurn; ++r) {
      y[w.id(i + r)] = product_with(Format::affine(w.place(i + r), 0), x, token, totals[r]);
    }
  }
  for (; i < end; ++i) {
    const Row row = row_of<Format>(w.place(i));
    const int64_t total = stream.template row<kPrefetchesFor<S, Rows>>(row.codes, w.ahead(i));
    y[w.id(i)] = product_with(row.affine, x, token, total);
  }
}

// The same for R rows side by side while there are that many; returns the first remaining row.
template <class S, class Stream, class Format, size_t R, class Rows>
[[gnu::noinline]] size_t rows_side_by_side(const Rows& w, const Inputs& x, size_t token, float* y,
                                           size_t begin, size_t end) {
  const Stream stream(x.q + token * padded_cols(x.cols), x.cols);
  size_t i = begin;
  for (; i + R <= end; i += R) {
    Row rows[R];
    const std::byte* codes[R];
    const std::byte* ahead[R];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      rows[r] = row_of<Format>(w.place(i + r));
      codes[r] = rows[r].codes;
      ahead[r] = w.ahead(i + r);
    }
    int64_t totals[R];
    stream.template side_by_side<kPrefetchesFor<S, Rows>>(codes, ahead, totals);
    for (size_t r = 0; r < R; ++r) {
      y[w.id(i + r)] = product_with(rows[r].affine, x, token, totals[r]);
    }
  }
  return i;
}

// Rows of at most kProductsPerLane codes are so close to each other that four side by side are
// still one stream. Longer scattered rows are not a stream, and eight in flight hide more latency.
template <class S, class Stream, class Format, class Rows>
inline void rows_of_int8(const Rows& w, const Inputs& x, size_t token, float* y, size_t begin,
                         size_t end) {
  if (x.cols > Stream::kMostCols) {
    stream_rows<S, PairStream<S>, Format>(w, x, token, y, begin, end);
    return;
  }
  size_t i = begin;
  if constexpr (Rows::kScattered) {
    if (x.cols <= Stream::kMostSideBySide) {
      i = rows_side_by_side<S, Stream, Format, 8>(w, x, token, y, i, end);
    }
  }
  if (x.cols <= kProductsPerLane || (Rows::kScattered && x.cols <= Stream::kMostSideBySide)) {
    i = rows_side_by_side<S, Stream, Format, 4>(w, x, token, y, i, end);
  }
  if (i < end) {
    stream_rows<S, Stream, Format>(w, x, token, y, i, end);
  }
}

}  // namespace
}  // namespace rwkv::edge

// Products with codecs whose codes no register loads, whose rows have several scales, or whose rows
// lie in panels: a part of a row at a time is unpacked and then multiplied as int8 or as floats.
// This serves every such codec in every kernel set; one that should be fast gets a loop of its own
// in the set's folder.
#pragma once

#include "runtime/kernels/loops/int_products.h"

namespace rwkv::edge {
namespace {

/// Whether the codes of a row are elements that registers load, after one scale and one offset.
template <class Format>
inline constexpr bool kIsDirect =
    Format::kGroup == 0 && Format::kUnitRows == 1 && Format::kElement != Element::Packed;

constexpr size_t kUnpackedTokens = 4;

/// Sums of products of R rows and T tokens, lane by lane.
template <class S, Element kElement, size_t R, size_t T>
struct FloatTile {
  typename S::F sums[R][T];

  void clear() {
    for (size_t r = 0; r < R; ++r) {
      for (size_t t = 0; t < T; ++t) {
        sums[r][t] = S::zero();
      }
    }
  }

  void add(const std::byte* const (&codes)[R], const float* x, size_t ldx, size_t i) {
    typename S::F xs[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      xs[t] = S::load(x + t * ldx + i);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const typename S::F w = S::template floats<kElement>(codes[r] + bytes_of(kElement, i));
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        sums[r][t] = S::fma(w, xs[t], sums[r][t]);
      }
    }
  }

  // The last elements of a row, fewer than a register holds: zeros after them add nothing.
  void add_rest(const std::byte* const (&codes)[R], const float* x, size_t ldx, size_t i,
                size_t n) {
    constexpr size_t kBytes = bytes_of(kElement, 1);
    std::byte w[R][S::kFloats * kBytes] = {};
    float xs[T][S::kFloats] = {};
    const std::byte* starts[R];
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(w[r], codes[r] + bytes_of(kElement, i), n * kBytes);
      starts[r] = w[r];
    }
    for (size_t t = 0; t < T; ++t) {
      std::memcpy(xs[t], x + t * ldx + i, n * sizeof(float));
    }
    add(starts, xs[0], S::kFloats, 0);
  }

  void finish(float (&products)[R][T]) const {
    for (size_t r = 0; r < R; ++r) {
      for (size_t t = 0; t < T; ++t) {
        products[r][t] = S::sum(sums[r][t]);
      }
    }
  }
};

template <class S, class Format, size_t T>
[[gnu::noinline]] void unpacked_floats(const RowPlace& row, const Inputs& x, size_t token,
                                       float (&products)[1][T]) {
  FloatTile<S, Element::F32, 1, T> tile;
  tile.clear();
  each_part<Format>(0, x.cols, x.cols, [&](size_t, size_t begin, size_t end, bool) {
    float values[kUnpackedCols];
    read_codes<Format>(row, begin, end - begin, values);
    const std::byte* const codes[] = {reinterpret_cast<const std::byte*>(values)};
    const float* const from = x.x + token * x.cols + begin;
    size_t i = 0;
    for (; i + S::kFloats <= end - begin; i += S::kFloats) {
      tile.add(codes, from, x.cols, i);
    }
    if (begin + i < end) {
      tile.add_rest(codes, from, x.cols, i, end - begin - i);
    }
  });
  tile.finish(products);
}

template <class S, class Format, size_t T>
[[gnu::noinline]] void unpacked_ints(const RowPlace& row, const Inputs& x, size_t token,
                                     float (&products)[1][T]) {
  const size_t ldq = padded_cols(x.cols);
  int64_t totals[1][T] = {};
  size_t group_begin = 0;
  each_part<Format>(0, x.cols, x.cols, [&](size_t group, size_t begin, size_t end, bool is_last) {
    int8_t unpacked[kUnpackedCols];
    read_codes<Format>(row, begin, end - begin, unpacked);
    const std::byte* const codes[] = {reinterpret_cast<const std::byte*>(unpacked)};
    add_int_products<S, Element::I8, 1, T>(codes, x.q + token * ldq + begin, ldq, end - begin,
                                           totals);
    if (!is_last) {
      return;
    }
    const Affine affine = Format::affine(row, group);
    for (size_t t = 0; t < T; ++t) {
      const float here =
          group_product<Format>(affine, x, token + t, group_begin, end, totals[0][t]);
      products[0][t] = group == 0 ? here : products[0][t] + here;
      totals[0][t] = 0;
    }
    group_begin = end;
  });
}

template <class S, class Format, size_t T, class Rows>
inline void unpacked_rows(const Rows& w, const Inputs& x, size_t token, float* y, size_t ldy,
                          size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    float products[1][T];
    if constexpr (Format::kInputs == InputForm::Floats) {
      unpacked_floats<S, Format, T>(w.place(i), x, token, products);
    } else {
      unpacked_ints<S, Format, T>(w.place(i), x, token, products);
    }
    for (size_t t = 0; t < T; ++t) {
      y[(token + t) * ldy + w.id(i)] = products[0][t];
    }
  }
}

template <class S, class Format, class Rows>
inline void unpacked_product(const Rows& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                             size_t end) {
  size_t t = 0;
  for (; t + kUnpackedTokens <= x.n_tokens; t += kUnpackedTokens) {
    unpacked_rows<S, Format, kUnpackedTokens>(w, x, t, y, ldy, begin, end);
  }
  for (; t < x.n_tokens; ++t) {
    unpacked_rows<S, Format, 1>(w, x, t, y, ldy, begin, end);
  }
}

}  // namespace
}  // namespace rwkv::edge

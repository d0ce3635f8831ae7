// Products of integers: rows of int8 or of bits times inputs of 16 bits. Of a set's Simd: Acc,
// Ints, kInts, kLanes, no_products(), ints<Element>(), load_ints(), dot(), join(), total(),
// four_totals().
#pragma once

#include "runtime/kernels/loops/rows.h"

namespace rwkv::edge {
namespace {

// Elements of a row whose integer products fit a 32-bit lane: 512 of at most 128 * kMostInput.
constexpr size_t kProductsPerLane = 512;

// totals += integer products of the first `n` elements of rows, where n fits the lanes. Not
// inlined: the surrounding code would take the registers that its sums use.
template <class S, Element kElement, size_t R, size_t T>
[[gnu::noinline]] void add_int_products(const std::byte* const (&rows)[R], const int16_t* q,
                                        size_t ldq, size_t n, int64_t (&totals)[R][T]) {
  typename S::Acc sums[R][T];
  const std::byte* w[R];
#pragma GCC unroll 8
  for (size_t r = 0; r < R; ++r) {
    w[r] = rows[r];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      sums[r][t] = S::no_products();
    }
  }
  const auto step = [&sums](const std::byte* const(&at)[R], const int16_t* x, size_t ldx)
      __attribute__((always_inline)) {
    typename S::Ints xs[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      xs[t] = S::load_ints(x + t * ldx);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const auto codes = S::template ints<kElement>(at[r]);
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        sums[r][t] = S::dot(sums[r][t], codes, xs[t]);
      }
    }
  };
  size_t i = 0;
  for (; i + S::kInts <= n; i += S::kInts) {
    step(w, q + i, ldq);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      w[r] += bytes_of(kElement, S::kInts);
    }
  }
  if (i < n) {
    // Do not read past the end of a row.
    std::byte rest[R][S::kInts] = {};
    const std::byte* at[R];
    const size_t n_bytes = kElement == Element::Bit ? (n - i + 7) / 8 : n - i;
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(rest[r], w[r], n_bytes);
      at[r] = rest[r];
    }
    step(at, q + i, ldq);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      totals[r][t] += S::template total<kElement>(sums[r][t]);
    }
  }
}

}  // namespace
}  // namespace rwkv::edge

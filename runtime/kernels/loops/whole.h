// Products of whole numbers: rows of int8 or of bits times inputs of 16 bits. Of a table's Simd:
// Acc, Whole, kWhole, kLanes, no_products(), whole<Codec>(), load_whole(), dot(), join(), total(),
// four_totals().
#pragma once

#include "runtime/kernels/loops/rows.h"

namespace rwkv::edge {
namespace {

// Numbers of a row whose whole products fit a 32-bit lane: 512 of at most 128 * kMostInput.
constexpr size_t kProductsPerLane = 512;

// Bytes of `n` numbers of a row; of one-bit rows a multiple of 8.
template <Codec kCodec>
constexpr size_t bytes_of(size_t n) {
  return kCodec == Codec::F32       ? n * 4
         : kCodec == Codec::F16     ? n * 2
         : kCodec == Codec::SignRow ? n / 8
                                    : n;
}

// Where number `i` of a row lies.
template <Codec kCodec>
inline const std::byte* number_at(const std::byte* numbers, size_t i) {
  return numbers + bytes_of<kCodec>(i);
}

// totals += whole products of the first `n` numbers of rows, where n fits the lanes. Not inlined:
// what surrounds it would take the registers that its sums want.
template <class S, Codec kCodec, size_t R, size_t T>
[[gnu::noinline]] void add_whole(const std::byte* const (&rows)[R], const int16_t* q, size_t ldq,
                                 size_t n, int64_t (&totals)[R][T]) {
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
    typename S::Whole xs[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; ++t) {
      xs[t] = S::load_whole(x + t * ldx);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      const auto numbers = S::template whole<kCodec>(at[r]);
#pragma GCC unroll 8
      for (size_t t = 0; t < T; ++t) {
        sums[r][t] = S::dot(sums[r][t], numbers, xs[t]);
      }
    }
  };
  size_t i = 0;
  for (; i + S::kWhole <= n; i += S::kWhole) {
    step(w, q + i, ldq);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; ++r) {
      w[r] += bytes_of<kCodec>(S::kWhole);
    }
  }
  if (i < n) {
    // What lies behind a row is not ours to read.
    std::byte rest[R][S::kWhole] = {};
    const std::byte* at[R];
    const size_t n_bytes = kCodec == Codec::SignRow ? (n - i + 7) / 8 : n - i;
    for (size_t r = 0; r < R; ++r) {
      std::memcpy(rest[r], w[r], n_bytes);
      at[r] = rest[r];
    }
    step(at, q + i, ldq);
  }
  for (size_t r = 0; r < R; ++r) {
    for (size_t t = 0; t < T; ++t) {
      totals[r][t] += S::template total<kCodec>(sums[r][t]);
    }
  }
}

}  // namespace
}  // namespace rwkv::edge

// Products with single rows of lut codecs, for sets with vector registers: the bits of
// loops/lut_rows.h. Besides what lut_tiles.h says, of `L`:
//   columns<bits>()   values of 64 columns in their order, in 16 / kLanes registers
//   line_dot()        products of such a register and its inputs, four of them in a lane
//   add_product(), add_products()  sums += factor * products; two factors if a register has two
//                     groups, a factor for each half
//   sum_of_lanes()    the sum of 16 lanes in the order of sum_of_lut_lanes()
#pragma once

#include "runtime/kernels/loops/rows.h"
#include "runtime/kernels/lut_format.h"

namespace rwkv::edge {
namespace {

template <class L>
inline constexpr size_t kLineParts = kLutLanes / L::kLanes;

template <class L, class Format>
[[gnu::always_inline]] inline float lut_line(const RowPlace& row, const typename L::Table& table,
                                             const Inputs& x, size_t token) {
  constexpr size_t kParts = kLineParts<L>;
  constexpr size_t kPieceBytes = lut_piece_bytes(Format::kKind);
  constexpr size_t kGroups = kLutCols / Format::kGroup;
  const size_t n_groups = n_byte_groups(x.cols);
  const int8_t* inputs = x.bytes + token * n_groups * kByteGroup;
  const float* const steps = x.byte_steps + token * n_groups;
  typename L::F sums[kParts];
  for (size_t p = 0; p < kParts; ++p) {
    sums[p] = L::no_sum();
  }
  const std::byte* codes = row.unit + lut_row_header(row.cols, Format::kKind.group);
  for (size_t g = 0; g < n_groups; ++g, codes += kPieceBytes, inputs += kByteGroup) {
    typename L::V values[kParts];
    L::template columns<Format::kKind.bits>(codes, table, values);
    const auto factor = [&](size_t group) __attribute__((always_inline)) {
      return static_cast<float>(Format::group_scale(row, kGroups * g + group)) * steps[g];
    };
#pragma GCC unroll 4
    for (size_t p = 0; p < kParts; ++p) {
      const auto products = L::line_dot(values[p], inputs + p * 4 * L::kLanes);
      if constexpr (kParts < kGroups) {
        sums[p] = L::add_products(sums[p], products, factor(0), factor(1));
      } else {
        sums[p] = L::add_product(sums[p], products, factor(p * kGroups / kParts));
      }
    }
  }
  return Format::row_scale(row) * L::sum_of_lanes(sums);
}

template <class L, Codec C>
void lut_matmul_rows(const RowsView& w, const Inputs& x, float* y, size_t ldy, size_t begin,
                     size_t end) {
  using Format = RowFormat<C>;
  const GatheredRows<RowOrder::Scattered> rows{w};
  const typename L::Table table = L::template table<Format::kKind.bits>(w.shared);
  const size_t row_bytes = lut_unit_bytes(Format::kKind, x.cols);
  for (size_t i = begin; i < end; ++i) {
    for (size_t line = 0; line < row_bytes; line += kCacheLine) {
      __builtin_prefetch(rows.ahead(i) + line);
    }
    const RowPlace row = rows.place(i);
    for (size_t t = 0; t < x.n_tokens; ++t) {
      y[t * ldy + w.ids[i]] = lut_line<L, Format>(row, table, x, t);
    }
  }
}

}  // namespace
}  // namespace rwkv::edge

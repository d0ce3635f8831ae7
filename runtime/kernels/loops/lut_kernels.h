// Which function multiplies with a lut codec: the loops over a set's LutSimd where there are some,
// and otherwise the generic set's, which has the same bits.
#pragma once

#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/lut_lines.h"
#include "runtime/kernels/loops/lut_tiles.h"

namespace rwkv::edge {
namespace {

/// For sets without loops of their own: those of another set that runs wherever they do.
template <const KernelSet& kOther>
struct LutSimdOf {};
using NoLutSimd = LutSimdOf<generic::kernel_set>;

/// Whether L has loops; if not, the set to take them from.
template <class L>
struct LutSource {
  static constexpr bool kHasLoops = true;
  static constexpr const KernelSet& kSet = generic::kernel_set;
};
template <const KernelSet& kOther>
struct LutSource<LutSimdOf<kOther>> {
  static constexpr bool kHasLoops = false;
  static constexpr const KernelSet& kSet = kOther;
};

template <class L>
struct LutKernels {
  static MatmulFn matmul_for(Codec codec) {
    if constexpr (LutSource<L>::kHasLoops) {
      if (codec == Codec::Lut3) {
        return lut_matmul<L, RowFormat<Codec::Lut3>::kKind>;
      }
      if (codec == Codec::Lut5) {
        return lut_matmul<L, RowFormat<Codec::Lut5>::kKind>;
      }
      if (codec == Codec::Lut4) {
        return lut_matmul<L, RowFormat<Codec::Lut4>::kKind>;
      }
    }
    return LutSource<L>::kSet.matmul(codec);
  }
  static MatmulRowsFn matmul_rows_for(Codec codec) {
    if constexpr (LutSource<L>::kHasLoops) {
      if (codec == Codec::Lut3Rows) {
        return lut_matmul_rows<L, Codec::Lut3Rows>;
      }
      if (codec == Codec::Lut4Rows) {
        return lut_matmul_rows<L, Codec::Lut4Rows>;
      }
      if (codec == Codec::Lut5Rows) {
        return lut_matmul_rows<L, Codec::Lut5Rows>;
      }
    }
    return LutSource<L>::kSet.matmul_rows(codec);
  }
  static AddScaledRowsFn add_scaled_rows_for(Codec codec) {
    if constexpr (LutSource<L>::kHasLoops) {
      if (codec == Codec::Lut3Rows) {
        return lut_add_scaled_rows<L, Codec::Lut3Rows>;
      }
      if (codec == Codec::Lut4Rows) {
        return lut_add_scaled_rows<L, Codec::Lut4Rows>;
      }
    }
    return LutSource<L>::kSet.add_scaled_rows(codec);
  }
  static constexpr LutFunctions functions() {
    return {matmul_for, matmul_rows_for, add_scaled_rows_for};
  }
};

}  // namespace
}  // namespace rwkv::edge

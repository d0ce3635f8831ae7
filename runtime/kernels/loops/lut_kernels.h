// Which function multiplies with a lut codec: the loops over a set's LutSimd. Ask for lut codecs
// only.
#pragma once

#include "runtime/kernels/for_codec.h"
#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/lut_lines.h"
#include "runtime/kernels/loops/lut_sums.h"
#include "runtime/kernels/loops/lut_tiles.h"

namespace rwkv::edge {
namespace {

template <Codec C>
inline constexpr bool kIsLut = RowFormat<C>::kInputs == InputForm::ByteGroups;
template <Codec C>
inline constexpr bool kIsTile = kIsLut<C>&& RowFormat<C>::kUnitRows == kLutTileRows;
template <Codec C>
inline constexpr bool kIsLine = kIsLut<C>&& RowFormat<C>::kUnitRows == 1;

/// Codecs of rows have no product of a whole matrix here: what is read whole lies in tiles.
template <class L>
struct LutKernels {
  static MatmulFn matmul_for(Codec codec) {
    return for_codec<MatmulFn>(codec, []<Codec C>() -> MatmulFn {
      if constexpr (kIsTile<C>) {
        return lut_matmul<L, RowFormat<C>::kKind>;
      } else {
        return generic::kernel_set.matmul(C);
      }
    });
  }
  static MatmulRowsFn matmul_rows_for(Codec codec) {
    return for_codec<MatmulRowsFn>(codec, []<Codec C>() -> MatmulRowsFn {
      if constexpr (kIsLine<C>) {
        return lut_matmul_rows<L, C>;
      } else {
        return nullptr;
      }
    });
  }
  static AddScaledRowsFn add_scaled_rows_for(Codec codec) {
    return for_codec<AddScaledRowsFn>(codec, []<Codec C>() -> AddScaledRowsFn {
      if constexpr (kIsLine<C>) {
        return lut_add_scaled_rows<L, C>;
      } else {
        return nullptr;
      }
    });
  }
  static constexpr LutFunctions functions() {
    return {matmul_for, matmul_rows_for, add_scaled_rows_for};
  }
};

}  // namespace
}  // namespace rwkv::edge

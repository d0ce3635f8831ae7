// The kernel set of an instruction set: every loop of this folder over its registers.
#pragma once

#include "runtime/kernels/for_codec.h"
#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/add_scaled_rows.h"
#include "runtime/kernels/loops/byte_groups.h"
#include "runtime/kernels/loops/elementwise.h"
#include "runtime/kernels/loops/inputs.h"
#include "runtime/kernels/loops/matmul.h"
#include "runtime/kernels/loops/wkv.h"

namespace rwkv::edge {
namespace {

// By specialisation: with -fsanitize=undefined GCC takes no comparison of functions for a constant.
template <MatmulFn kFunction>
constexpr bool kIsThere = true;
template <>
constexpr bool kIsThere<nullptr> = false;

/// `S` is the set's Simd, `Stream` what multiplies rows of int8 with one token (int8_rows.h),
/// `kSignMatmul` its product with one-bit rows from byte planes, where it has one, `kLut` its
/// functions for lut codecs.
template <class S, class Stream, MatmulFn kSignMatmul, const LutFunctions& kLut>
struct LoopsOver {
  static MatmulFn matmul_for(Codec codec) {
    if (kIsThere<kSignMatmul> && codec == Codec::SignRow) {
      return kSignMatmul;
    }
    return for_codec<MatmulFn>(codec, []<Codec C>() -> MatmulFn {
      if constexpr (RowFormat<C>::kInputs == InputForm::ByteGroups) {
        return kLut.matmul(C);
      } else {
        return matmul<S, Stream, C>;
      }
    });
  }
  static MatmulRowsFn matmul_rows_for(Codec codec) {
    return for_single_rows<MatmulRowsFn>(codec, []<Codec C>() -> MatmulRowsFn {
      if constexpr (RowFormat<C>::kInputs == InputForm::ByteGroups) {
        return kLut.matmul_rows(C);
      } else {
        return matmul_rows<S, Stream, C>;
      }
    });
  }
  static AddScaledRowsFn add_scaled_rows_for(Codec codec) {
    return for_single_rows<AddScaledRowsFn>(codec, []<Codec C>() -> AddScaledRowsFn {
      if constexpr (RowFormat<C>::kInputs == InputForm::ByteGroups) {
        return kLut.add_scaled_rows(C);
      } else {
        return add_scaled_rows<S, C>;
      }
    });
  }
};

template <class S, const LutFunctions& kLut, class Stream = PairStream<S>,
          MatmulFn kSignMatmul = nullptr>
constexpr KernelSet kernel_set_of(const char* name, bool (*runs_here)()) {
  using Loops = LoopsOver<S, Stream, kSignMatmul, kLut>;
  return {
      .name = name,
      .runs_here = runs_here,
      .uses_planes = kIsThere<kSignMatmul>,
      .quantize_input = quantize_input_with<S>,
      .quantize_bytes = quantize_byte_groups,
      .matmul = Loops::matmul_for,
      .matmul_rows = Loops::matmul_rows_for,
      .add_scaled_rows = Loops::add_scaled_rows_for,
      .wkv_v5 = wkv_v5_with<S>,
      .wkv_v7 = wkv_v7_with<S>,
      .elementwise = &kElementwise,
  };
}

}  // namespace
}  // namespace rwkv::edge

// Ties the loops to the registers of this instruction set.
#include "runtime/kernels/arm_dotprod/simd.h"
#include "runtime/kernels/for_codec.h"
#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/add_scaled_rows.h"
#include "runtime/kernels/loops/elementwise.h"
#include "runtime/kernels/loops/inputs.h"
#include "runtime/kernels/loops/matmul.h"
#include "runtime/kernels/loops/wkv.h"

namespace rwkv::edge::arm_dotprod {
namespace {

using Stream = PairStream<Simd>;

MatmulFn matmul_for(Codec codec) {
  return for_codec<MatmulFn>(codec, []<Codec C>() -> MatmulFn { return matmul<Simd, Stream, C>; });
}

MatmulRowsFn matmul_rows_for(Codec codec) {
  return for_single_rows<MatmulRowsFn>(
      codec, []<Codec C>() -> MatmulRowsFn { return matmul_rows<Simd, Stream, C>; });
}

AddScaledRowsFn add_scaled_rows_for(Codec codec) {
  return for_single_rows<AddScaledRowsFn>(
      codec, []<Codec C>() -> AddScaledRowsFn { return add_scaled_rows<Simd, C>; });
}

}  // namespace

constexpr KernelSet kernel_set = {
    .name = "arm_dotprod",
    .runs_here = has_dotprod,
    .uses_planes = false,
    .quantize_input = quantize_input_with<Simd>,
    .matmul = matmul_for,
    .matmul_rows = matmul_rows_for,
    .add_scaled_rows = add_scaled_rows_for,
    .wkv_v5 = wkv_v5_with<Simd>,
    .wkv_v7 = wkv_v7_with<Simd>,
    .elementwise = &kElementwise,
};

}  // namespace rwkv::edge::arm_dotprod

// Ties the loops to the registers of this instruction set.
#include "runtime/kernels/arm_dotprod/simd.h"
#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/accumulate.h"
#include "runtime/kernels/loops/elementwise.h"
#include "runtime/kernels/loops/inputs.h"
#include "runtime/kernels/loops/matmul.h"
#include "runtime/kernels/loops/wkv.h"

namespace rwkv::edge::arm_dotprod {
namespace {

MatmulFn matmul_for(Codec codec) {
  const MatmulFn fn = matmul_of<Simd>(codec);
  return fn ? fn : generic::kernel_set.matmul(codec);
}

MatmulRowsFn matmul_rows_for(Codec codec) {
  const MatmulRowsFn fn = matmul_rows_of<Simd>(codec);
  return fn ? fn : generic::kernel_set.matmul_rows(codec);
}

AccumulateRowsFn accumulate_rows_for(Codec codec) {
  const AccumulateRowsFn fn = accumulate_rows_of<Simd>(codec);
  return fn ? fn : generic::kernel_set.accumulate_rows(codec);
}

}  // namespace

constexpr KernelSet kernel_set = {
    .name = "arm_dotprod",
    .runs_here = has_dotprod,
    .wants_planes = false,
    .quantize_input = quantize_input_with<Simd>,
    .matmul = matmul_for,
    .matmul_rows = matmul_rows_for,
    .accumulate_rows = accumulate_rows_for,
    .wkv_v5 = wkv_v5_with<Simd>,
    .wkv_v7 = wkv_v7_with<Simd>,
    .elementwise = &kElementwise,
};

}  // namespace rwkv::edge::arm_dotprod

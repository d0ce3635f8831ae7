// The kernel set in plain C++, which defines the answers of all others.
#include "runtime/kernels/generic/accumulate.h"
#include "runtime/kernels/generic/inputs.h"
#include "runtime/kernels/generic/matmul.h"
#include "runtime/kernels/generic/wkv.h"
#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/elementwise.h"

namespace rwkv::edge::generic {

constexpr KernelSet kernel_set = {
    .name = "generic",
    .runs_here = runs_anywhere,
    .wants_planes = false,
    .quantize_input = quantize_input,
    .matmul = matmul_for,
    .matmul_rows = matmul_rows_for,
    .accumulate_rows = accumulate_rows_for,
    .wkv_v5 = wkv_v5,
    .wkv_v7 = wkv_v7,
    .elementwise = &kElementwise,
};

}  // namespace rwkv::edge::generic

// Ties the loops to the registers of this instruction set.
#include "runtime/kernels/loops/kernel_set.h"
#include "runtime/kernels/x86_avx2/sign_sums.h"
#include "runtime/kernels/x86_avx2/simd.h"

namespace rwkv::edge::x86_avx2 {

constexpr KernelSet kernel_set =
    kernel_set_of<Simd, lut_functions, PairStream<Simd>, sign_matmul<Simd, SignSums>>("x86_avx2",
                                                                                      has_avx2);

}  // namespace rwkv::edge::x86_avx2

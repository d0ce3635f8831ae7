// Ties the loops for lut codecs to the registers of this instruction set.
#include "runtime/kernels/loops/lut_kernels.h"
#include "runtime/kernels/x86_avx2/lut_simd.h"

namespace rwkv::edge::x86_avx2 {

constexpr LutFunctions lut_functions = LutKernels<LutSimd>::functions();

}  // namespace rwkv::edge::x86_avx2

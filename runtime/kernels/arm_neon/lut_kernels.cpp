// Ties the loops for lut codecs to the registers of this instruction set.
#include "runtime/kernels/loops/lut_kernels.h"
#include "runtime/kernels/loops/neon_lut_simd.h"

namespace rwkv::edge::arm_neon {

constexpr LutFunctions lut_functions = LutKernels<LutSimd>::functions();

}  // namespace rwkv::edge::arm_neon

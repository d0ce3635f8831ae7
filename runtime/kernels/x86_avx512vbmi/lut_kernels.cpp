// Lut codecs with the instructions of AVX-512 with VBMI; all else is that of x86_avx512vnni.
#include "runtime/kernels/loops/lut_kernels.h"
#include "runtime/kernels/x86_avx512vbmi/lut_simd.h"

namespace rwkv::edge::x86_avx512vbmi {

constexpr LutFunctions lut_functions = LutKernels<LutSimd>::functions();

}  // namespace rwkv::edge::x86_avx512vbmi

// Lut codecs with the instructions of AVX2 with AVX-VNNI; all else is that of x86_avx2.
#include "runtime/kernels/for_codec.h"
#include "runtime/kernels/loops/lut_kernels.h"
#include "runtime/kernels/x86_avx2/lut_simd.h"

namespace rwkv::edge::x86_avxvnni {

constexpr LutFunctions lut_functions = LutKernels<LutSimd>::functions();

}  // namespace rwkv::edge::x86_avxvnni

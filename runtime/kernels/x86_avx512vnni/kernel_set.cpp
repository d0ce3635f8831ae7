// Ties the loops to the registers of this instruction set. Lut codecs take the loops of x86_avx2,
// whose own in 512 bits would be another 26 KB of program.
#include "runtime/kernels/loops/kernel_set.h"
#include "runtime/kernels/x86_avx512vnni/byte_stream.h"
#include "runtime/kernels/x86_avx512vnni/sign_sums.h"
#include "runtime/kernels/x86_avx512vnni/simd.h"

namespace rwkv::edge::x86_avx512vnni {

constexpr KernelSet kernel_set =
    kernel_set_of<Simd, x86_avx2::lut_functions, ByteStream, sign_matmul<Simd, SignSums>>(
        "x86_avx512vnni", has_avx512vnni);

}  // namespace rwkv::edge::x86_avx512vnni

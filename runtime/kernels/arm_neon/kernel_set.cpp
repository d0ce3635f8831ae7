// Ties the loops to the registers of this instruction set.
#include "runtime/kernels/loops/kernel_set.h"
#include "runtime/kernels/arm_neon/simd.h"

namespace rwkv::edge::arm_neon {

constexpr KernelSet kernel_set = kernel_set_of<Simd, lut_functions>("arm_neon", runs_anywhere);

}  // namespace rwkv::edge::arm_neon

// Ties the loops to the registers of this instruction set.
#include "runtime/kernels/loops/kernel_set.h"
#include "runtime/kernels/arm_dotprod/simd.h"

namespace rwkv::edge::arm_dotprod {

constexpr KernelSet kernel_set = kernel_set_of<Simd, lut_functions>("arm_dotprod", has_dotprod);

}  // namespace rwkv::edge::arm_dotprod

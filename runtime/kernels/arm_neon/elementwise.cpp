#include "runtime/kernels/shared/elementwise.h"

#include "runtime/kernels/tables.h"

namespace rwkv::edge::arm_neon {

const Elementwise elementwise = kElementwise;

}  // namespace rwkv::edge::arm_neon

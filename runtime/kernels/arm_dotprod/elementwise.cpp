#include "runtime/kernels/shared/elementwise.h"

#include "runtime/kernels/tables.h"

namespace rwkv::edge::arm_dotprod {

const Elementwise elementwise = kElementwise;

}  // namespace rwkv::edge::arm_dotprod

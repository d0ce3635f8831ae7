#include "runtime/kernels/shared/wkv.h"

#include "runtime/kernels/arm_neon/simd.h"
#include "runtime/kernels/tables.h"

namespace rwkv::edge::arm_neon {

void wkv_v5(const WkvHeadArgs& args) {
  wkv_v5_with<Simd>(args);
}

void wkv_v7(const WkvV7Args& args) {
  wkv_v7_with<Simd>(args);
}

}  // namespace rwkv::edge::arm_neon

#include "runtime/kernels/shared/wkv.h"

#include "runtime/kernels/tables.h"
#include "runtime/kernels/x86_avx512vnni/simd.h"

namespace rwkv::edge::x86_avx512vnni {

void wkv_v5(const WkvHeadArgs& args) {
  wkv_v5_with<Simd>(args);
}

void wkv_v7(const WkvV7Args& args) {
  wkv_v7_with<Simd>(args);
}

}  // namespace rwkv::edge::x86_avx512vnni

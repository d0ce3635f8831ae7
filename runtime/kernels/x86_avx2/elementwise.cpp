#include "runtime/kernels/shared/elementwise.h"

#include "runtime/kernels/tables.h"

namespace rwkv::edge::x86_avx2 {

const Elementwise elementwise = kElementwise;

}  // namespace rwkv::edge::x86_avx2

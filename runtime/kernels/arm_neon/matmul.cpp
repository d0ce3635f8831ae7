#include "runtime/kernels/shared/matmul.h"

#include "runtime/kernels/arm_neon/simd.h"
#include "runtime/kernels/tables.h"

namespace rwkv::edge::arm_neon {

MatmulFn matmul_for(Codec codec) {
  const MatmulFn fn = matmul_of<Simd>(codec);
  return fn ? fn : generic::matmul_for(codec);
}

MatmulRowsFn matmul_rows_for(Codec codec) {
  return matmul_rows_of<Simd>(codec);
}

}  // namespace rwkv::edge::arm_neon

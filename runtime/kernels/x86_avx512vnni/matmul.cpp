#include "runtime/kernels/shared/matmul.h"

#include "runtime/kernels/shared/x86_sign_rows.h"
#include "runtime/kernels/tables.h"
#include "runtime/kernels/x86_avx512vnni/simd.h"

namespace rwkv::edge::x86_avx512vnni {

MatmulFn matmul_for(Codec codec) {
  if (codec == Codec::SignRow) {
    return sign_matmul<Simd>;
  }
  const MatmulFn fn = matmul_of<Simd>(codec);
  return fn ? fn : generic::matmul_for(codec);
}

MatmulRowsFn matmul_rows_for(Codec codec) {
  return matmul_rows_of<Simd>(codec);
}

}  // namespace rwkv::edge::x86_avx512vnni

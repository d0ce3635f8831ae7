#include "runtime/kernels/shared/matmul.h"

#include "runtime/kernels/tables.h"
#include "runtime/kernels/x86_avx512vnni/byte_stream.h"
#include "runtime/kernels/x86_avx512vnni/sign_sums.h"
#include "runtime/kernels/x86_avx512vnni/simd.h"

namespace rwkv::edge::x86_avx512vnni {

MatmulFn matmul_for(Codec codec) {
  if (codec == Codec::SignRow) {
    return sign_matmul<Simd, SignSums>;
  }
  const MatmulFn fn = matmul_of<Simd, ByteStream>(codec);
  return fn ? fn : generic::matmul_for(codec);
}

MatmulRowsFn matmul_rows_for(Codec codec) {
  return matmul_rows_of<Simd, ByteStream>(codec);
}

}  // namespace rwkv::edge::x86_avx512vnni

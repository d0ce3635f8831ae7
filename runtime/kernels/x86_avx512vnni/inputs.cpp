#include "runtime/kernels/shared/inputs.h"

#include "runtime/kernels/tables.h"
#include "runtime/kernels/x86_avx512vnni/simd.h"

namespace rwkv::edge::x86_avx512vnni {

void quantize_input(const float* x, size_t cols, int16_t* q, float* step, float* sum) {
  quantize_input_with<Simd>(x, cols, q, step, sum);
}

}  // namespace rwkv::edge::x86_avx512vnni

#include "runtime/kernels/shared/inputs.h"

#include "runtime/kernels/arm_neon/simd.h"
#include "runtime/kernels/tables.h"

namespace rwkv::edge::arm_neon {

void quantize_input(const float* x, size_t cols, int16_t* q, float* step, float* sum) {
  quantize_input_with<Simd>(x, cols, q, step, sum);
}

}  // namespace rwkv::edge::arm_neon

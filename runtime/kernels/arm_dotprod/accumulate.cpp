#include "runtime/kernels/shared/accumulate.h"

#include "runtime/kernels/arm_dotprod/simd.h"
#include "runtime/kernels/tables.h"

namespace rwkv::edge::arm_dotprod {

AccumulateFn accumulate_for(Codec codec) {
  return generic::accumulate_for(codec);
}

AccumulateRowsFn accumulate_rows_for(Codec codec) {
  const AccumulateRowsFn fn = accumulate_rows_of<Simd>(codec);
  return fn ? fn : generic::accumulate_rows_for(codec);
}

}  // namespace rwkv::edge::arm_dotprod

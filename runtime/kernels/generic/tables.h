// What the files of this folder put into the generic kernel table.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge::generic {

MatmulFn matmul_for(Codec codec);
AccumulateFn accumulate_for(Codec codec);
MatmulRowsFn matmul_rows_for(Codec codec);
AccumulateRowsFn accumulate_rows_for(Codec codec);
void wkv_v5(const WkvHeadArgs& args);
void wkv_v7(const WkvV7Args& args);

}  // namespace rwkv::edge::generic

// What the files of each folder put into its kernel table: one namespace per folder, the same
// functions in each.
#pragma once

#include "runtime/kernels/kernels.h"

#define RWKV_DECLARE_KERNELS(folder)                                                     \
  namespace rwkv::edge::folder {                                                         \
  void quantize_input(const float* x, size_t cols, int16_t* q, float* step, float* sum); \
  MatmulFn matmul_for(Codec codec);                                                      \
  AccumulateFn accumulate_for(Codec codec);                                              \
  MatmulRowsFn matmul_rows_for(Codec codec);                                             \
  AccumulateRowsFn accumulate_rows_for(Codec codec);                                     \
  void wkv_v5(const WkvHeadArgs& args);                                                  \
  void wkv_v7(const WkvV7Args& args);                                                    \
  extern const Elementwise elementwise;                                                  \
  }  // namespace rwkv::edge::folder

RWKV_DECLARE_KERNELS(generic)
RWKV_DECLARE_KERNELS(x86_avx2)
RWKV_DECLARE_KERNELS(x86_avx512vnni)
RWKV_DECLARE_KERNELS(arm_neon)
RWKV_DECLARE_KERNELS(arm_dotprod)

#undef RWKV_DECLARE_KERNELS

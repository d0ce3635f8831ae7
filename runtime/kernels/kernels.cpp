#include "runtime/kernels/kernels.h"

#include "runtime/kernels/generic/tables.h"

namespace rwkv::edge {

const KernelTable kGenericKernels = {"generic",
                                     generic::matmul_for,
                                     generic::accumulate_for,
                                     generic::matmul_rows_for,
                                     generic::accumulate_rows_for,
                                     generic::wkv_v5,
                                     generic::wkv_v7};

const KernelTable& kernels() {
  return kGenericKernels;
}

}  // namespace rwkv::edge

// The kernel set of each folder, and when it may run. The conditions are in kernels.cpp, which is
// compiled for any processor; the sets are each compiled for their own.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge {

bool runs_anywhere();
bool has_avx2();
bool has_avx512vnni();
bool has_dotprod();

namespace generic {
extern const KernelSet kernel_set;
}
namespace x86_avx2 {
extern const KernelSet kernel_set;
}
namespace x86_avx512vnni {
extern const KernelSet kernel_set;
}
namespace arm_neon {
extern const KernelSet kernel_set;
}
namespace arm_dotprod {
extern const KernelSet kernel_set;
}

}  // namespace rwkv::edge

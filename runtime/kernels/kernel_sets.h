// The kernel set of each folder, and when it may run. The conditions are in kernels.cpp, which is
// compiled for any processor; the sets are each compiled for their own.
#pragma once

#include "runtime/kernels/kernels.h"

namespace rwkv::edge {

bool runs_anywhere();
bool has_avx2();
bool has_avx512vnni();
bool has_avx512vbmi();
bool has_dotprod();

/// What multiplies with lut codecs. It is compiled by itself: for size, since its loops say what is
/// to be unrolled, and for sets that are another one with faster lut codecs.
struct LutFunctions {
  MatmulFn (*matmul)(Codec codec);
  MatmulRowsFn (*matmul_rows)(Codec codec);
  AddScaledRowsFn (*add_scaled_rows)(Codec codec);
};

namespace generic {
extern const KernelSet kernel_set;
}
namespace x86_avx2 {
extern const KernelSet kernel_set;
extern const LutFunctions lut_functions;
}  // namespace x86_avx2
namespace x86_avx512vnni {
extern const KernelSet kernel_set;
}
namespace x86_avx512vbmi {
extern const LutFunctions lut_functions;
}
namespace arm_neon {
extern const KernelSet kernel_set;
extern const LutFunctions lut_functions;
}  // namespace arm_neon
namespace arm_dotprod {
extern const KernelSet kernel_set;
extern const LutFunctions lut_functions;
}  // namespace arm_dotprod

}  // namespace rwkv::edge

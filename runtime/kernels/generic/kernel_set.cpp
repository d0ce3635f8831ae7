// The kernel set in plain C++, which defines the answers of all others.
#include "runtime/kernels/for_codec.h"
#include "runtime/kernels/generic/add_scaled_rows.h"
#include "runtime/kernels/generic/inputs.h"
#include "runtime/kernels/generic/matmul.h"
#include "runtime/kernels/generic/wkv.h"
#include "runtime/kernels/kernel_sets.h"
#include "runtime/kernels/loops/byte_groups.h"
#include "runtime/kernels/loops/elementwise.h"
#include "runtime/kernels/loops/lut_rows.h"

namespace rwkv::edge::generic {
namespace {

MatmulFn matmul_for(Codec codec) {
  return for_codec<MatmulFn>(codec, []<Codec C>() -> MatmulFn {
    if constexpr (RowFormat<C>::kInputs == InputForm::ByteGroups) {
      return lut_product;
    } else {
      return matmul<C>;
    }
  });
}

MatmulRowsFn matmul_rows_for(Codec codec) {
  return for_single_rows<MatmulRowsFn>(codec, []<Codec C>() -> MatmulRowsFn {
    if constexpr (RowFormat<C>::kInputs == InputForm::ByteGroups) {
      return lut_product_of_rows;
    } else {
      return matmul_rows<C>;
    }
  });
}

AddScaledRowsFn add_scaled_rows_for(Codec codec) {
  return for_single_rows<AddScaledRowsFn>(codec, []<Codec C>() -> AddScaledRowsFn {
    if constexpr (RowFormat<C>::kInputs == InputForm::ByteGroups) {
      return [](const RowsView& w, const float* a, size_t lda, size_t n_tokens, float* y,
                double* /*bias*/, size_t begin,
                size_t end) { add_lut_rows(w, a, lda, n_tokens, y, begin, end); };
    } else {
      return add_scaled_rows<C>;
    }
  });
}

}  // namespace

constexpr KernelSet kernel_set = {
    .name = "generic",
    .runs_here = runs_anywhere,
    .uses_planes = false,
    .quantize_input = quantize_input,
    .quantize_bytes = quantize_byte_groups,
    .matmul = matmul_for,
    .matmul_rows = matmul_rows_for,
    .add_scaled_rows = add_scaled_rows_for,
    .wkv_v5 = wkv_v5,
    .wkv_v7 = wkv_v7,
    .elementwise = &kElementwise,
};

}  // namespace rwkv::edge::generic

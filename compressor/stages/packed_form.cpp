#include "compressor/stages/packed_form.h"

namespace rwkv::press {

EncodedForm form_of(const PlannedTensor& tensor, const ModelConfig& config) {
  const TensorBinding& binding = tensor.binding;
  return {tensor.codec, binding.packed_rows(), binding.packed_cols(),
          binding.layout == Layout::Transposed,
          binding.role == Role::Embedding && config.ln0_folded};
}

bool is_in_form(const TensorSource& source, size_t index, const PlannedTensor& tensor,
                const ModelConfig& config) {
  return encoded_form(source, index) == form_of(tensor, config);
}

}  // namespace rwkv::press

// The form in which a planned tensor will be packed, and whether a source has it in that form.
#pragma once

#include "compressor/checkpoint/encoded_source.h"
#include "compressor/stages/plan.h"

namespace rwkv::press {

/// In a model of this configuration.
EncodedForm form_of(const PlannedTensor& tensor, const ModelConfig& config);

/// Whether `source` has the tensor, its tensor `index`, in that form: its codes are copied then.
bool is_in_form(const TensorSource& source, size_t index, const PlannedTensor& tensor,
                const ModelConfig& config);

}  // namespace rwkv::press

#include "compressor/stages/coded_model.h"

#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/lut_rounding.h"
#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/packed_form.h"

namespace rwkv::press {
namespace {

// Whether the network that is trained has tensors of this role. What else a file holds (predictors
// of neurons, the clusters of a head) is packed as it is.
bool is_in_network(Role role) {
  switch (role) {
    case Role::Vector:
    case Role::Lora:
    case Role::Projection:
    case Role::FfnKey:
    case Role::FfnValue:
    case Role::Embedding:
    case Role::Head:
      return true;
    case Role::Predictor:
    case Role::SignBits:
    case Role::ClusterHead:
    case Role::TokenRows:
    case Role::InitialState:
    case Role::Ignored:
      return false;
  }
  return false;
}

// `values` of the checkpoint, f32 [rows, cols] as packed.
Result<at::Tensor> as_packed(const Work& work, const PlannedTensor& tensor,
                             const at::Tensor& values) {
  RWKV_ASSIGN(const QuantizerInput input,
              quantizer_input(*work.source, tensor, work.plan.config, values, {}, work.seed));
  return input.weights;
}

Result<at::Tensor> unrounded(const Work& work, size_t index) {
  std::vector<float> values;
  RWKV_ASSIGN(const bool is_known, work.source->read_unrounded(index, values));
  return is_known ? at::tensor(values) : at::Tensor();
}

Result<CodedStart> start_of(const Work& work, const PlannedTensor& tensor) {
  const EncodedForm form = form_of(tensor, work.plan.config);
  RWKV_ASSIGN(const size_t index, work.source->index_of(tensor.binding.name));
  CodedStart start;
  start.name = tensor.binding.name;
  start.codec = tensor.codec;
  start.shape = {form.rows, form.cols, form.is_transposed ? Outputs::Cols : Outputs::Rows};
  if (encoded_form(*work.source, index) == form) {
    RWKV_TRY(read_codes(*work.source, index, start.codes));
    RWKV_ASSIGN(const at::Tensor values, unrounded(work, index));
    if (values.defined()) {
      RWKV_ASSIGN(start.values, as_packed(work, tensor, values));
    }
    return start;
  }
  RWKV_ASSIGN(const at::Tensor values, load_f32(*work.source, index));
  RWKV_ASSIGN(start.values, as_packed(work, tensor, values));
  start.codes.resize(form.n_bytes());
  const std::span<const float> floats(start.values.data_ptr<float>(),
                                      static_cast<size_t>(start.values.numel()));
  RWKV_TRY(encode_on_threads(start.codec, floats, start.shape, start.codes)
               .in("tensor '" + start.name + "'"));
  return start;
}

// The token of each row of a clustered head.
Result<at::Tensor> head_rows(const Work& work, Role role) {
  if (role != Role::Head || work.plan.config.n_cluster == 0) {
    return at::Tensor();
  }
  RWKV_ASSIGN(const at::Tensor tokens, load_named(*work.source, "head.tokens"));
  return tokens.to(at::kLong);
}

}  // namespace

Result<CodedWeights> coded_weights_of(const Work& work, TrainCodes what, std::string_view prefix) {
  CodedWeights weights(what);
  for (const PlannedTensor& tensor : work.plan.tensors) {
    const TensorBinding& binding = tensor.binding;
    // The rows of a clustered head have another order than the network's, in any codec.
    const bool is_ordered = binding.role == Role::Head && work.plan.config.n_cluster > 0;
    if (!binding.name.starts_with(prefix) || !is_in_network(binding.role) ||
        (tensor.codec == Codec::F32 && !is_ordered)) {
      continue;
    }
    RWKV_ASSIGN(CodedStart start, start_of(work, tensor));
    CodedWeights::Place place;
    place.shape.assign(binding.shape.begin(), binding.shape.end());
    place.is_transposed = binding.layout == Layout::Transposed;
    RWKV_ASSIGN(place.rows, head_rows(work, binding.role));
    weights.add(std::move(start), std::move(place));
  }
  return weights;
}

Status put_codes(Work& work, std::span<const std::byte> codes, const std::string& name) {
  const PlannedTensor* const tensor = work.plan.find(name);
  RWKV_ASSIGN(const size_t index, work.source->index_of(name));
  const EncodedForm form = form_of(*tensor, work.plan.config);
  if (codes.size() != form.n_bytes()) {
    return bad_input("tensor '{}': expected {} bytes in codec {}, found {}", name, form.n_bytes(),
                     codec_traits(form.codec).name, codes.size());
  }
  return work.source->put_encoded(name, work.source->tensors()[index].shape, form, codes);
}

}  // namespace rwkv::press

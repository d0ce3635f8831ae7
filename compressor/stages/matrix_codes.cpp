#include "compressor/stages/matrix_codes.h"

#include "compressor/model/elementwise.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/stages/packed_form.h"

namespace rwkv::press {
namespace {

constexpr std::string_view kWeight = ".weight";

}  // namespace

std::string product_of(const TensorBinding& binding) {
  const std::string prefix = fmt::format("blocks.{}.", binding.block);
  std::string name = binding.name.substr(prefix.size());
  if (name.ends_with(kWeight)) {
    name.resize(name.size() - kWeight.size() - (binding.part == Part::Dense ? 0 : 1));
  }
  return name;
}

at::Tensor* member_of(Block& block, const TensorBinding& binding) {
  const auto found = block.linears.find(product_of(binding));
  if (found == block.linears.end()) {
    return nullptr;
  }
  Linear& linear = found->second;
  return binding.part == Part::FactorA   ? &linear.factor_a
         : binding.part == Part::FactorB ? &linear.factor_b
                                         : &linear.dense;
}

at::Tensor inputs_of_second(const Linear& pair, const at::Tensor& x) {
  const SingleThread one;
  const at::Tensor inner = at::mm(x, pair.factor_a.t());
  return pair.squares ? relu_squared(inner) : inner;
}

bool has_product(const TensorBinding& binding) {
  const Role role = binding.role;
  return role == Role::Projection || role == Role::FfnKey || role == Role::FfnValue ||
         role == Role::Head;
}

Result<QuantizerInput> quantizer_input(const TensorSource& source, const PlannedTensor& tensor,
                                       const ModelConfig& config, const at::Tensor& values,
                                       const at::Tensor& moments, uint64_t seed) {
  const TensorBinding& binding = tensor.binding;
  const EncodedForm form = form_of(tensor, config);
  const std::vector<int64_t> shape(binding.shape.begin(), binding.shape.end());
  at::Tensor packed = values.reshape(shape);
  if (form.has_ln0) {
    RWKV_ASSIGN(const LayerNorm ln0, load_layer_norm(NamedTensors(source), "blocks.0.ln0"));
    packed = ln0.apply(packed);
  }
  packed = form.is_transposed ? packed.transpose(-1, -2) : packed;
  QuantizerInput input;
  input.weights = packed.reshape({static_cast<int64_t>(form.rows), -1}).contiguous();
  input.moments = moments;
  input.inputs_are_rows = form.is_transposed;
  input.codec = tensor.codec;
  input.seed = seed;
  return input;
}

at::Tensor chosen_values(const QuantizerInput& input, const Quantized& chosen) {
  at::Tensor values = chosen.values;
  if (!values.defined()) {
    values = at::empty_like(input.weights);
    const auto rows = static_cast<uint64_t>(values.size(0));
    const auto cols = static_cast<uint64_t>(values.size(1));
    codec_traits(input.codec)
        .decode_rows(MatrixView::of(chosen.codes.data(), input.codec, rows, cols), 0, rows,
                     {values.data_ptr<float>(), rows * cols});
  }
  return input.inputs_are_rows ? values.t().contiguous() : values;
}

}  // namespace rwkv::press

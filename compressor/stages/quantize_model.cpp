#include "compressor/stages/quantize_model.h"

#include <map>

#include "compressor/checkpoint/tensor.h"
#include "compressor/model/elementwise.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/stages/block_walk.h"
#include "compressor/stages/packed_form.h"

namespace rwkv::press {
namespace {

constexpr std::string_view kWeight = ".weight";

// The product of the block to which a tensor belongs, as the matrix or as a factor: "att.key".
std::string product_of(const TensorBinding& binding) {
  const std::string prefix = fmt::format("blocks.{}.", binding.block);
  std::string name = binding.name.substr(prefix.size());
  if (name.ends_with(kWeight)) {
    name.resize(name.size() - kWeight.size() - (binding.part == Part::Dense ? 0 : 1));
  }
  return name;
}

// The member of the block's product that a tensor is; nullptr for what is no product (LoRA,
// predictors).
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

// On one thread: the same bits with any number of them.
at::Tensor inputs_of_second(const Linear& pair, const at::Tensor& x) {
  const SingleThread one;
  const at::Tensor inner = at::mm(x, pair.factor_a.t());
  return pair.squares ? relu_squared(inner) : inner;
}

class ModelQuantizer {
 public:
  ModelQuantizer(Work& work, const Quantizer& quantizer) : work_(work), quantizer_(quantizer) {}
  Status run();

 private:
  std::vector<const PlannedTensor*> tensors_of(int64_t block) const;
  Status visit(BlockVisit& here);
  Status quantize_second_factors(BlockVisit& here);
  Result<at::Tensor> quantize(const PlannedTensor& tensor, const at::Tensor& moments);

  Work& work_;
  const Quantizer& quantizer_;
  double error_ = 0;
  int64_t n_matrices_ = 0;
};

std::vector<const PlannedTensor*> ModelQuantizer::tensors_of(int64_t block) const {
  std::vector<const PlannedTensor*> tensors;
  for (const PlannedTensor& tensor : work_.plan.tensors) {
    if (tensor.binding.block == block && codec_traits(tensor.codec).is_lossy &&
        tensor.binding.role != Role::SignBits) {
      tensors.push_back(&tensor);
    }
  }
  return tensors;
}

// Replaces the tensor in the source by codes; returns the values of these codes, in the shape of
// the tensor.
Result<at::Tensor> ModelQuantizer::quantize(const PlannedTensor& tensor,
                                            const at::Tensor& moments) {
  const TensorBinding& binding = tensor.binding;
  RWKV_ASSIGN(const size_t index, work_.source->index_of(binding.name));
  RWKV_ASSIGN(const at::Tensor values, load_f32(*work_.source, index));
  const EncodedForm form = form_of(tensor, work_.plan.config);
  if (encoded_form(*work_.source, index) == form) {
    return values;  // a packed file's own codes: nothing is rounded twice
  }
  const std::vector<int64_t> shape(binding.shape.begin(), binding.shape.end());
  at::Tensor packed = values.reshape(shape);
  if (form.has_ln0) {
    RWKV_ASSIGN(const LayerNorm ln0, load_layer_norm(NamedTensors(*work_.source), "blocks.0.ln0"));
    packed = ln0.apply(packed);
  }
  packed = form.is_transposed ? packed.transpose(-1, -2) : packed;
  QuantizerInput input;
  input.weights = packed.reshape({static_cast<int64_t>(form.rows), -1}).contiguous();
  input.moments = moments;
  input.inputs_are_rows = form.is_transposed;
  input.codec = tensor.codec;
  input.seed = work_.seed;
  auto quantized = quantizer_.quantize(input);
  RWKV_TRY(quantized.status().in("tensor '" + binding.name + "'"));
  error_ += quantized.value().error;
  ++n_matrices_;
  const std::vector<uint64_t> own_shape(values.sizes().begin(), values.sizes().end());
  RWKV_TRY(work_.source->put_encoded(binding.name, own_shape, form, quantized.value().codes));
  return load_named(*work_.source, binding.name);
}

Status ModelQuantizer::visit(BlockVisit& here) {
  for (const PlannedTensor* tensor : tensors_of(here.index)) {
    if (tensor->binding.part == Part::FactorB) {
      continue;
    }
    at::Tensor* member = member_of(here.block, tensor->binding);
    const at::Tensor moments =
        member != nullptr ? here.moments[product_of(tensor->binding)] : at::Tensor();
    RWKV_ASSIGN(const at::Tensor values, quantize(*tensor, moments));
    if (member != nullptr) {
      *member = values.reshape(member->sizes());
    }
  }
  return quantize_second_factors(here);
}

// After the first ones: their inputs are the outputs of the quantized first factors.
Status ModelQuantizer::quantize_second_factors(BlockVisit& here) {
  std::map<std::string, MomentSum> sums;
  std::vector<const PlannedTensor*> seconds;
  for (const PlannedTensor* tensor : tensors_of(here.index)) {
    if (tensor->binding.part == Part::FactorB) {
      seconds.push_back(tensor);
      sums[product_of(tensor->binding)];
    }
  }
  if (here.walk != nullptr && !seconds.empty()) {
    here.walk->observe(here.block, [&](const std::string& product, const at::Tensor& x) {
      if (const auto found = sums.find(product); found != sums.end()) {
        found->second.add(inputs_of_second(here.block.linears.at(product), x));
      }
    });
  }
  for (const PlannedTensor* tensor : seconds) {
    const at::Tensor moments =
        here.walk != nullptr ? sums[product_of(tensor->binding)].mean() : at::Tensor();
    RWKV_ASSIGN(*member_of(here.block, tensor->binding), quantize(*tensor, moments));
  }
  return {};
}

Status ModelQuantizer::run() {
  const bool learns = quantizer_.learns();
  // The source returns embeddings without ln0, regardless of the form in which they will be packed.
  ModelConfig config = work_.plan.config;
  config.ln0_folded = false;
  const std::vector<const PlannedTensor*> ends = tensors_of(-1);
  for (const PlannedTensor* tensor : ends) {
    if (tensor->binding.role != Role::Head) {
      RWKV_TRY(quantize(*tensor, {}).status());
    }
  }
  const BlockWalk walk{.source = *work_.source,
                       .config = config,
                       .calibration = learns ? &*work_.calibration : nullptr,
                       .activations = learns ? Activations::AfterChanges : Activations::None,
                       .products =
                           [&](int64_t block) {
                             std::vector<std::string> products;
                             for (const PlannedTensor* tensor : tensors_of(block)) {
                               if (tensor->binding.part != Part::FactorB) {
                                 products.push_back(product_of(tensor->binding));
                               }
                             }
                             return products;
                           },
                       .progress = [&](double share) { work_.progress("quantize", share); }};
  RWKV_ASSIGN(work_.hidden, walk.run([&](BlockVisit& here) { return visit(here); }));
  at::Tensor head_moments;
  if (learns) {
    RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, work_.hidden));
    MomentSum sum;
    sum.add(z);
    head_moments = sum.mean();
  }
  for (const PlannedTensor* tensor : ends) {
    if (tensor->binding.role == Role::Head) {
      RWKV_TRY(quantize(*tensor, head_moments).status());
    }
  }
  work_.report(fmt::format("quantize: {} matrices, {:.3f} % of the {} energy lost on average",
                           n_matrices_,
                           100 * error_ / static_cast<double>(std::max<int64_t>(1, n_matrices_)),
                           learns ? "output" : "weights'"));
  return {};
}

}  // namespace

Status quantize_model(Work& work, const Quantizer& quantizer) {
  return ModelQuantizer(work, quantizer).run();
}

}  // namespace rwkv::press

// A matrix of the model on its way to a quantizer and back.
#pragma once

#include <map>
#include <string>

#include "compressor/model/block.h"
#include "compressor/quantizers/quantizer.h"
#include "compressor/stages/plan.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// The product of its block to which a tensor belongs, as the matrix or as a factor: "att.key".
std::string product_of(const TensorBinding& binding);
/// The member of the block's product that a tensor is; nullptr for what is no product (LoRA,
/// predictors).
at::Tensor* member_of(Block& block, const TensorBinding& binding);
/// What the second factor of a pair sees of the inputs x [n, in]. On one thread: the same bits with
/// any number of them.
at::Tensor inputs_of_second(const Linear& pair, const at::Tensor& x);
/// Whether the tensor is multiplied with inputs that text gives: a matrix of a block or the head,
/// or a factor of one. Embedding and LoRA are not.
bool has_product(const TensorBinding& binding);

/// `values`, in the checkpoint's shape, as the codec of `tensor` packs them (an embedding with ln0
/// applied, ffn.value transposed), with the moments of the product's inputs, if there are any.
Result<QuantizerInput> quantizer_input(const TensorSource& source, const PlannedTensor& tensor,
                                       const ModelConfig& config, const at::Tensor& values,
                                       const at::Tensor& moments, uint64_t seed);

/// What was chosen for a matrix of two dimensions, f32 in the checkpoint's shape.
at::Tensor chosen_values(const QuantizerInput& input, const Quantized& chosen);

}  // namespace rwkv::press

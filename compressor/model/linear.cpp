#include "compressor/model/linear.h"

#include <torch/csrc/autograd/custom_function.h>

#include "compressor/model/elementwise.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

struct ProductBf16 : public torch::autograd::Function<ProductBf16> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight) {
    const at::Tensor x_half = x.to(at::kBFloat16);
    const at::Tensor weight_half = weight.to(at::kBFloat16);
    context->save_for_backward({x_half, weight_half});
    return at::linear(x_half, weight_half).to(at::kFloat);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor grad = grads[0].to(at::kBFloat16);
    torch::autograd::variable_list result(2);
    if (context->needs_input_grad(0)) {
      result[0] = at::mm(grad, saved[1]).to(at::kFloat);
    }
    if (context->needs_input_grad(1)) {
      result[1] = at::mm(grad.t(), saved[0]).to(at::kFloat);
    }
    return result;
  }
};

// A product with a weight that is held in fewer bits and has no gradient: it is f32 only while it
// is used.
struct ProductHeld : public torch::autograd::Function<ProductHeld> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight) {
    context->save_for_backward({weight});
    return at::linear(x, weight.to(at::kFloat));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    torch::autograd::variable_list result(2);
    if (context->needs_input_grad(0)) {
      result[0] = at::mm(grads[0], context->get_saved_variables()[0].to(at::kFloat));
    }
    return result;
  }
};

}  // namespace

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, Precision precision) {
  if (precision == Precision::Bf16) {
    return ProductBf16::apply(x, weight);
  }
  return weight.scalar_type() == x.scalar_type() ? at::linear(x, weight)
                                                 : ProductHeld::apply(x, weight);
}

at::Tensor held(const at::Tensor& values) {
  if (!values.defined() || values.requires_grad()) {
    return values;
  }
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor narrow = values.to(type);
    if (narrow.to(at::kFloat).equal(values)) {
      return narrow;
    }
  }
  return values;
}

at::Tensor Linear::apply(const at::Tensor& x, Precision precision) const {
  if (!is_pair()) {
    return product(x, dense, precision);
  }
  const at::Tensor middle = product(x, factor_a, precision);
  const at::Tensor y = product(squares ? relu_squared(middle) : middle, factor_b, precision);
  return diagonal.defined() ? y + x * diagonal : y;
}

}  // namespace rwkv::press

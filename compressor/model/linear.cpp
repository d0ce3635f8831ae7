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

}  // namespace

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, Precision precision) {
  return precision == Precision::Bf16 ? ProductBf16::apply(x, weight) : at::linear(x, weight);
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

#include "compressor/model/linear.h"

#include "compressor/model/elementwise.h"

namespace rwkv::press {

at::Tensor Linear::apply(const at::Tensor& x) const {
  if (!is_pair()) {
    return at::linear(x, dense);
  }
  const at::Tensor middle = at::linear(x, factor_a);
  const at::Tensor y = at::linear(squares ? relu_squared(middle) : middle, factor_b);
  return diagonal.defined() ? y + x * diagonal : y;
}

}  // namespace rwkv::press

#include "compressor/model/initial_state.h"

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

Result<InitialState> InitialState::load(const BlockTensors& tensors) {
  constexpr const char* kName = "att.time_state";
  InitialState initial;
  if (tensors.contains(kName)) {
    RWKV_ASSIGN(initial.state_, tensors.matrix(kName));
  }
  return initial;
}

// `front` is [head_size, dim_att], the same for every sequence.
at::Tensor InitialState::prepend(const at::Tensor& front, const at::Tensor& rows,
                                 const WkvShape& shape) const {
  const at::Tensor sequences = rows.reshape({-1, shape.length, rows.size(1)});
  const at::Tensor all = front.unsqueeze(0).expand({sequences.size(0), -1, -1});
  return at::cat({all, sequences}, 1).reshape({-1, rows.size(1)});
}

at::Tensor InitialState::with_zeros(const at::Tensor& rows, const WkvShape& shape) const {
  return prepend(at::zeros({head_size(), rows.size(1)}, rows.options()), rows, shape);
}

// Token t has key t of every head and its values, and a decay that keeps what is there.
WkvInputs InitialState::with_writers(const WkvInputs& inputs, const WkvShape& shape) const {
  const at::Tensor keys = at::eye(head_size(), inputs.k.options()).repeat({1, shape.n_head});
  const at::Tensor values =
      state_.to(inputs.v.options()).permute({2, 0, 1}).reshape({head_size(), -1});
  return {with_zeros(inputs.r, shape), prepend(keys, inputs.k, shape),
          prepend(values, inputs.v, shape), with_zeros(inputs.log_w.expand_as(inputs.r), shape)};
}

WkvShape InitialState::longer(const WkvShape& shape) const {
  return {shape.length + head_size(), shape.n_head};
}

// The rows of the text's own tokens.
at::Tensor InitialState::cut(const at::Tensor& rows, const WkvShape& shape) const {
  return rows.reshape({-1, shape.length + head_size(), rows.size(1)})
      .narrow(1, head_size(), shape.length)
      .reshape({-1, rows.size(1)});
}

at::Tensor InitialState::wkv_v5(const WkvInputs& inputs, const at::Tensor& u,
                                const WkvShape& shape) const {
  if (!state_.defined()) {
    return press::wkv_v5(inputs, u, shape);
  }
  return cut(press::wkv_v5(with_writers(inputs, shape), u, longer(shape)), shape);
}

at::Tensor InitialState::wkv_v7(const WkvInputs& inputs, const at::Tensor& kk,
                                const at::Tensor& kka, const WkvShape& shape) const {
  if (!state_.defined()) {
    return press::wkv_v7(inputs, kk, kka, shape);
  }
  return cut(press::wkv_v7(with_writers(inputs, shape), with_zeros(kk, shape),
                           with_zeros(kka, shape), longer(shape)),
             shape);
}

}  // namespace rwkv::press

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

InitialState::Frame InitialState::frame_of(const WkvInputs& inputs, const WkvShape& shape,
                                           const at::Tensor* last) const {
  const int64_t head_size = inputs.r.size(1) / shape.n_head;
  return {state_.defined() ? head_size : 0, shape.length, last != nullptr ? head_size : 0};
}

namespace {

// Rows before and behind those of every sequence, the same for all; zeros where undefined.
at::Tensor with_rows(const at::Tensor& rows, int64_t length, const at::Tensor& before,
                     int64_t n_before, const at::Tensor& behind, int64_t n_behind) {
  const at::Tensor sequences = rows.reshape({-1, length, rows.size(1)});
  const auto all = [&](const at::Tensor& own, int64_t n) {
    const at::Tensor one = own.defined() ? own : at::zeros({n, rows.size(1)}, rows.options());
    return one.unsqueeze(0).expand({sequences.size(0), n, -1});
  };
  return at::cat({all(before, n_before), sequences, all(behind, n_behind)}, 1)
      .reshape({-1, rows.size(1)});
}

// The outputs of the sequences' own tokens; those behind them go to `last`.
at::Tensor cut(const at::Tensor& rows, int64_t all, int64_t before, int64_t length,
               at::Tensor* last) {
  const at::Tensor sequences = rows.reshape({-1, all, rows.size(1)});
  if (last != nullptr) {
    *last = sequences.narrow(1, before + length, all - before - length);
  }
  return sequences.narrow(1, before, length).reshape({-1, rows.size(1)});
}

}  // namespace

// Writer t has key t of every head and its values; reader t asks for key t; both keep what is
// there.
WkvInputs InitialState::framed(const WkvInputs& inputs, const WkvShape& shape,
                               const Frame& frame) const {
  const int64_t head_size = inputs.r.size(1) / shape.n_head;
  const at::Tensor keys = at::eye(head_size, inputs.k.options()).repeat({1, shape.n_head});
  at::Tensor values;
  if (state_.defined()) {
    // [n_head, value, key] to rows of keys, with the heads' values in them.
    values = state_.to(inputs.v.options()).permute({2, 0, 1}).reshape({head_size, -1});
  }
  const auto with = [&](const at::Tensor& rows, const at::Tensor& before,
                        const at::Tensor& behind) {
    return with_rows(rows, shape.length, before, frame.before, behind, frame.behind);
  };
  const at::Tensor reads = frame.behind > 0 ? keys : at::Tensor();
  const at::Tensor writes = frame.before > 0 ? keys : at::Tensor();
  return {with(inputs.r, {}, reads), with(inputs.k, writes, {}), with(inputs.v, values, {}),
          with(inputs.log_w.expand_as(inputs.r), {}, {})};
}

at::Tensor InitialState::wkv_v5(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape,
                                at::Tensor* last) const {
  const Frame frame = frame_of(inputs, shape, last);
  if (frame.all() == shape.length) {
    return press::wkv_v5(inputs, u, shape);
  }
  return cut(press::wkv_v5(framed(inputs, shape, frame), u, {frame.all(), shape.n_head}),
             frame.all(), frame.before, frame.length, last);
}

at::Tensor InitialState::wkv_v7(const WkvInputs& inputs, const at::Tensor& kk,
                                const at::Tensor& kka, const WkvShape& shape,
                                at::Tensor* last) const {
  const Frame frame = frame_of(inputs, shape, last);
  if (frame.all() == shape.length) {
    return press::wkv_v7(inputs, kk, kka, shape);
  }
  const auto with_zeros = [&](const at::Tensor& rows) {
    return with_rows(rows, shape.length, {}, frame.before, {}, frame.behind);
  };
  return cut(press::wkv_v7(framed(inputs, shape, frame), with_zeros(kk), with_zeros(kka),
                           {frame.all(), shape.n_head}),
             frame.all(), frame.before, frame.length, last);
}

}  // namespace rwkv::press

// The tuned state that sequences of v5 to v7 begin with, for recurrences that begin with an empty
// one: head_size tokens in front of every sequence write it, key by key, and their outputs are cut
// off. So the loops and the chunked form stay as they are, and the state gets gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressor/model/named_tensors.h"
#include "compressor/model/wkv.h"

namespace rwkv::press {

class InitialState {
 public:
  /// att.time_state [n_head, value, key]; zeros if the model has none.
  static Result<InitialState> load(const BlockTensors& tensors);

  /// The functions of wkv.h from that state.
  at::Tensor wkv_v5(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape) const;
  at::Tensor wkv_v7(const WkvInputs& inputs, const at::Tensor& kk, const at::Tensor& kka,
                    const WkvShape& shape) const;

 private:
  int64_t head_size() const { return state_.size(2); }
  at::Tensor prepend(const at::Tensor& front, const at::Tensor& rows, const WkvShape& shape) const;
  at::Tensor with_zeros(const at::Tensor& rows, const WkvShape& shape) const;
  WkvInputs with_writers(const WkvInputs& inputs, const WkvShape& shape) const;
  WkvShape longer(const WkvShape& shape) const;
  at::Tensor cut(const at::Tensor& rows, const WkvShape& shape) const;
  at::Tensor state_;  ///< undefined: zeros
};

}  // namespace rwkv::press

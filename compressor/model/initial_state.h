// The states that sequences of v5 to v7 begin and end with, for recurrences that begin with an
// empty one and return only outputs. head_size tokens in front of every sequence write a tuned
// state, key by key, and their outputs are cut off; as many behind it read the last state. So the
// loops and the chunked form stay as they are, and both states have gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressor/model/named_tensors.h"
#include "compressor/model/wkv.h"

namespace rwkv::press {

class InitialState {
 public:
  /// att.time_state [n_head, value, key]; zeros if the model has none.
  static Result<InitialState> load(const BlockTensors& tensors);

  /// The functions of wkv.h from that state. `last`, unless it is null, receives the state after
  /// every sequence, [batch, head_size, dim_att]: row i has key i of every head's values.
  at::Tensor wkv_v5(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape,
                    at::Tensor* last = nullptr) const;
  at::Tensor wkv_v7(const WkvInputs& inputs, const at::Tensor& kk, const at::Tensor& kka,
                    const WkvShape& shape, at::Tensor* last = nullptr) const;

 private:
  /// How many tokens stand before and behind those of a sequence.
  struct Frame {
    int64_t before = 0, length = 0, behind = 0;
    int64_t all() const { return before + length + behind; }
  };
  Frame frame_of(const WkvInputs& inputs, const WkvShape& shape, const at::Tensor* last) const;
  WkvInputs framed(const WkvInputs& inputs, const WkvShape& shape, const Frame& frame) const;
  at::Tensor state_;  ///< undefined: zeros
};

}  // namespace rwkv::press

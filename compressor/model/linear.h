// One product of a block: a dense matrix, or the factor pair in its place.
#pragma once

#include <ATen/ATen.h>

namespace rwkv::press {

/// A product as the block has it. All tensors are f32 on the CPU.
struct Linear {
  at::Tensor dense;               ///< [out, in]; defined unless it is a pair
  at::Tensor factor_a, factor_b;  ///< [rank, in] and [out, rank], applied in this order
  at::Tensor diagonal;            ///< [n], n = in = out; pairs only, may be undefined
  bool squares = false;           ///< a pair with relu(.)^2 between its factors (x059)

  bool is_pair() const { return factor_a.defined(); }
  /// x [n, in] to a new tensor [n, out]: W x, or B(Ax) + d*x, or B relu(Ax)^2 + d*x, as
  /// RWKV-Lite's x058 and x059 have them.
  at::Tensor apply(const at::Tensor& x) const;
};

}  // namespace rwkv::press

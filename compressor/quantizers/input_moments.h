// The moments of the inputs of a product in the forms in which quantizers need them.
#pragma once

#include <ATen/core/Tensor.h>

#include "formats/base/status.h"

namespace rwkv::press {

struct InputMoments {
  /// E[x x^T], f32 [n, n], symmetric, divided by its mean diagonal, with a hundredth added to its
  /// diagonal: so it is positive definite whatever the text did not contain, and an input that is
  /// always zero weighs little instead of nothing. The unit matrix if all inputs are zero.
  at::Tensor damped;

  /// BadInput if `moments` is not [n, n] or not finite, or has a negative diagonal.
  static Result<InputMoments> of(const at::Tensor& moments, int64_t n);

  /// F, f32 [n, n], upper triangle with ones on the diagonal, for which `damped` = F diag(d) F^T.
  /// The error of a row D of the matrix is then D damped D^T = sum over j of d_j ((D F)_j)^2, and
  /// (D F)_j depends only on the first j errors. `d` f32 [n]. The factorisation is in double, on
  /// one thread. BadInput if `damped` is not positive definite: it is then no one's moments.
  struct Triangle {
    at::Tensor factor;
    at::Tensor d;
  };
  Result<Triangle> triangle() const;
};

}  // namespace rwkv::press

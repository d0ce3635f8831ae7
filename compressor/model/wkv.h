// The wkv recurrences over whole sequences from the empty state, with gradients. On the CPU they
// are loops of our own, forward and backward: LibTorch has none, and as its operations each token
// would cost several calls on tiny tensors. Elsewhere (CUDA) they are the chunked tensor operations
// of wkv_chunked.h. Heads (for v4: groups of channels) of all sequences run on LibTorch's threads;
// each belongs to one thread, so results do not depend on their number.
//
// Tensors are f32 (f64 works as well, for tests), contiguous or made so; rows are tokens, sequence
// after sequence.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkv::press {

/// How the rows of a tensor [batch * length, n_head * head_size] split.
struct WkvShape {
  int64_t length = 0;  ///< tokens per sequence
  int64_t n_head = 0;
};

/// v4: a weighted average per channel, stabilised by the largest exponent so far. k and v
/// [n, dim_att]; decay = -exp(time_decay) and bonus = time_first [dim_att]; result [n, dim_att].
/// The formula is that of runtime/model/v4.cpp. Gradients for all four.
at::Tensor wkv_v4(const at::Tensor& k, const at::Tensor& v, const at::Tensor& decay,
                  const at::Tensor& bonus, int64_t length);

/// What the recurrences with a matrix state per head share, [n, dim_att].
struct WkvInputs {
  at::Tensor r, k, v;
  /// Logarithm of the factor that the state keeps per token, at most 0; v5's, the same for all
  /// tokens, is [dim_att].
  at::Tensor log_w;
};

/// v5 and v6, u = bonus [dim_att], w = exp(log_w):
///   y_j = sum_i r_i (u_i k_i v_j + S_ij), then S_ij = w_i S_ij + k_i v_j.
/// As in runtime/kernels/generic/wkv.cpp. Gradients for all five.
at::Tensor wkv_v5(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape);

/// v7: S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r; kka = kk * a.
/// As in runtime/kernels/generic/wkv.cpp. Gradients for all six.
at::Tensor wkv_v7(const WkvInputs& inputs, const at::Tensor& kk, const at::Tensor& kka,
                  const WkvShape& shape);

}  // namespace rwkv::press

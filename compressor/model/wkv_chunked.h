// The recurrences of wkv.h as tensor operations that work on chunks of tokens at once: no loop of
// ours, so they run on any device LibTorch has, with its gradients. Slower than the loops on a CPU.
#pragma once

#include "compressor/model/wkv.h"

namespace rwkv::press {

/// Tokens that one step works on together.
constexpr int64_t kWkvChunk = 16;

/// As wkv_v4.
at::Tensor wkv_v4_chunked(const at::Tensor& k, const at::Tensor& v, const at::Tensor& decay,
                          const at::Tensor& bonus, int64_t length);
/// As wkv_v5.
at::Tensor wkv_v5_chunked(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape);
/// As wkv_v7.
at::Tensor wkv_v7_chunked(const WkvInputs& inputs, const at::Tensor& kk, const at::Tensor& kka,
                          const WkvShape& shape);

}  // namespace rwkv::press

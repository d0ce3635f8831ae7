// One product of a block: a dense matrix, or the factor pair that replaces it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace rwkv::press {

/// The precision of products. bf16 rounds both sides and the result, accumulates in
/// f32 and leaves weights in f32: about twice as fast on a CPU with AVX-512 BF16, and on a GPU.
enum class Precision : uint8_t { F32, Bf16 };

/// f32 `values` in bf16 or f16 if that keeps every one of them, else as they are; leaves with
/// gradients stay. Most published models are bf16 or f16, so half the memory holds what is fixed.
at::Tensor held(const at::Tensor& values);

/// x [n, in] times weight [out, in] transposed, [n, out] in f32; gradients for both, but not for a
/// weight that is held() in fewer bits.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, Precision precision);

/// A product as the block has it. All tensors are f32, or matrices that are held() in fewer bits.
struct Linear {
  at::Tensor dense;               ///< [out, in]; defined unless it is a pair
  at::Tensor factor_a, factor_b;  ///< [rank, in] and [out, rank], applied in this order
  at::Tensor diagonal;            ///< [n], n = in = out; pairs only, may be undefined
  bool squares = false;           ///< a pair with relu(.)^2 between its factors (x059)

  bool is_pair() const { return factor_a.defined(); }
  /// x [n, in] to a new tensor [n, out]: W x, or B(Ax) + d*x, or B relu(Ax)^2 + d*x, as
  /// RWKV-Lite's x058 and x059 have them.
  at::Tensor apply(const at::Tensor& x, Precision precision = Precision::F32) const;
};

}  // namespace rwkv::press

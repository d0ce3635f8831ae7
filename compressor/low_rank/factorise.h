// Factor pairs instead of dense projections: W ~ B A (+ diag d), [out, in] to [out, rank] and
// [rank, in].
//
// With H = E[x x^T] of the inputs, the output error E|Wx - BAx|^2 is least for B = U_r, A = U_r^T
// W, U_r the leading eigenvectors of W H W^T: the outputs projected on their principal directions.
// Truncating the SVD of W H^(1/2) and undoing H^(1/2) (SVD-LLM, arXiv 2403.07378) gives the same
// product; this way no root of H is taken, so H may be singular. With H = 1 it is the plain
// truncated SVD of RWKV-Lite (arXiv 2412.10856).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "compressor/low_rank/spectrum_store.h"
#include "compressor/numerics/needs.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct Factors {
  at::Tensor a;         ///< [rank, in]
  at::Tensor b;         ///< [out, rank]
  at::Tensor diagonal;  ///< [n] or undefined

  /// The matrix they stand for, [out, in].
  at::Tensor product() const;
};

/// The best pair of `rank` (1 to min(out, in)) for inputs with moments `h` [in, in]; an undefined h
/// stands for the unit matrix. Both factors get the root of each singular value, so that rounding
/// either costs about the same. The same arguments and seed give the same numbers with any number
/// of threads as far as the BLAS does, and with or without a store, which may save the work.
Factors factorise(const at::Tensor& w, const at::Tensor& h, int64_t rank, uint64_t seed,
                  const SpectrumStore& store = {});

/// The same with a diagonal, for square w: d and the pair are improved in turn, each in closed form
/// (d_i = (E_i H)_i / H_ii for the error E = W - BA), for `rounds` rounds or until the error falls
/// by less than a thousandth. The error never grows.
Factors factorise_with_diagonal(const at::Tensor& w, const at::Tensor& h, int64_t rank,
                                int64_t rounds, uint64_t seed, const SpectrumStore& store = {});

/// What factorise() takes of a matrix of `rows` outputs besides its moments: work on all threads,
/// and bytes at the peak with the matrix and the moments.
Effort factorise_effort(int64_t rows, int64_t rank);
uint64_t factorise_bytes(int64_t rows, int64_t cols);

/// E|Wx - Px|^2 / E|Wx|^2 for the moments h of x: the share of output energy that is lost.
double relative_error(const at::Tensor& w, const at::Tensor& approximation, const at::Tensor& h);

/// Eigenvalues of W H W^T, descending: what each further rank would keep. [out], f64.
at::Tensor output_energies(const at::Tensor& w, const at::Tensor& h);

/// h with a hundredth of its mean diagonal added to the diagonal, which regularises directions that
/// the samples did not cover.
at::Tensor with_floor(const at::Tensor& h);

}  // namespace rwkv::press

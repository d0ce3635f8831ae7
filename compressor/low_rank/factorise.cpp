#include "compressor/low_rank/factorise.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/tensor_random.h"

namespace rwkv::press {
namespace {

// Up to this size, all eigenvectors in double cost less than a second.
constexpr int64_t kExact = 1024;
// For larger matrices: subspace iteration with more directions than needed. Each round squares the
// ratio of kept to dropped eigenvalues of W H W^T, which are squared singular values already.
constexpr int64_t kExtra = 32;
constexpr int kRounds = 5;

// W H W^T in the precision of w.
at::Tensor output_moments(const at::Tensor& w, const at::Tensor& h) {
  return h.defined() ? at::mm(at::mm(w, h), w.t()) : at::mm(w, w.t());
}

struct Leading {
  at::Tensor vectors;   ///< [n, rank]
  at::Tensor energies;  ///< [rank], descending
};

Spectrum spectrum_of(const at::Tensor& g) {
  const at::Tensor g64 = g.to(at::kDouble);
  auto [values, vectors] = at::linalg_eigh((g64 + g64.t()) / 2, "L");
  // Ascending from LAPACK.
  return {vectors.flip({1}).to(at::kFloat).contiguous(),
          values.flip({0}).to(at::kFloat).contiguous()};
}

Leading leading_exact(const at::Tensor& g, int64_t rank, const SpectrumStore& store = {}) {
  std::optional<Spectrum> all = store.find(g);
  if (!all) {
    all = spectrum_of(g);
    store.keep(g, *all);
  }
  return {all->vectors.narrow(1, 0, rank).contiguous(), all->values.narrow(0, 0, rank)};
}

Leading leading_by_iteration(const at::Tensor& g, int64_t rank, uint64_t seed) {
  const int64_t n = g.size(0);
  at::Tensor q = at::randn({n, std::min(n, rank + kExtra)}, tensor_random(seed), at::kFloat);
  for (int round = 0; round < kRounds; ++round) {
    q = std::get<0>(at::linalg_qr(at::mm(g, q)));
  }
  const Leading inner = leading_exact(at::mm(q.t(), at::mm(g, q)), rank);
  return {at::mm(q, inner.vectors), inner.energies};
}

Leading leading(const at::Tensor& g, int64_t rank, uint64_t seed, const SpectrumStore& store) {
  const int64_t n = g.size(0);
  return n <= kExact || 2 * rank > n ? leading_exact(g, rank, store)
                                     : leading_by_iteration(g, rank, seed);
}

double energy(const at::Tensor& e, const at::Tensor& h) {
  const at::Tensor weighted = h.defined() ? at::mm(e, h) : e;
  return (weighted * e).sum(at::kDouble).item<double>();
}

}  // namespace

at::Tensor Factors::product() const {
  const at::Tensor pair = at::mm(b, a);
  return diagonal.defined() ? pair + at::diag(diagonal) : pair;
}

Factors factorise(const at::Tensor& w, const at::Tensor& h, int64_t rank, uint64_t seed,
                  const SpectrumStore& store) {
  const at::NoGradGuard no_grad;
  const Leading top = leading(output_moments(w, h), rank, seed, store);
  // Singular values of the outputs; a direction without energy keeps factor 1.
  const at::Tensor roots = top.energies.clamp_min(0).sqrt().sqrt();
  const at::Tensor scale = at::where(roots > 0, roots, at::ones_like(roots));
  return {at::mm(top.vectors.t(), w) / scale.unsqueeze(1), top.vectors * scale.unsqueeze(0), {}};
}

Factors factorise_with_diagonal(const at::Tensor& w, const at::Tensor& h, int64_t rank,
                                int64_t rounds, uint64_t seed, const SpectrumStore& store) {
  const at::NoGradGuard no_grad;
  constexpr double kLeastGain = 1e-3;
  Factors best = factorise(w, h, rank, seed, store);  // later matrices are needed for one rank only
  best.diagonal = at::zeros({w.size(0)}, at::kFloat);
  double least = energy(w - best.product(), h);
  for (int64_t round = 0; round < rounds && least > 0; ++round) {
    Factors next = best;
    const at::Tensor error = w - at::mm(best.b, best.a);
    next.diagonal = h.defined() ? at::mm(error, h).diagonal() / h.diagonal().clamp_min(1e-12)
                                : error.diagonal().clone();
    const Factors pair = factorise(w - at::diag(next.diagonal), h, rank, seed);
    next.a = pair.a;
    next.b = pair.b;
    const double now = energy(w - next.product(), h);
    if (now >= least) {
      break;
    }
    const bool is_done = now > least * (1 - kLeastGain);
    best = next;
    least = now;
    if (is_done) {
      break;
    }
  }
  return best;
}

Effort factorise_effort(int64_t rows, int64_t rank) {
  // Eigenvectors in double, of which a good part is no product; products and an orthogonal basis
  // in each round of the iteration.
  constexpr double kEigenvectors = 40;
  constexpr double kBasis = 4;
  const auto n = static_cast<double>(rows);
  const auto r = static_cast<double>(rank);
  if (rows <= kExact || 2 * rank > rows) {
    return {.products = kEigenvectors * n * n * n};
  }
  const double q = std::min(n, r + static_cast<double>(kExtra));
  return {.products = kRounds * (2 * n * n * q + kBasis * n * q * q) + kEigenvectors * q * q * q +
                      4 * n * n * q};
}

uint64_t factorise_bytes(int64_t rows, int64_t cols) {
  // The matrix, moments, outputs' moments; in double: these, a symmetric copy, vectors, LAPACK's.
  constexpr uint64_t kFloats = 5;
  constexpr uint64_t kDoubles = 4;
  const auto n = static_cast<uint64_t>(std::max(rows, cols));
  return n * n * (kFloats * sizeof(float) + (rows <= kExact ? kDoubles * sizeof(double) : 0));
}

double relative_error(const at::Tensor& w, const at::Tensor& approximation, const at::Tensor& h) {
  const double whole = energy(w, h);
  return whole > 0 ? energy(w - approximation, h) / whole : 0.0;
}

at::Tensor output_energies(const at::Tensor& w, const at::Tensor& h) {
  const at::Tensor g = output_moments(w, h).to(at::kDouble);
  return at::linalg_eigvalsh((g + g.t()) / 2, "L").flip({0}).clamp_min(0);
}

at::Tensor with_floor(const at::Tensor& h) {
  constexpr double kFloor = 0.01;
  const double mean = h.diagonal().mean().item<double>();
  return h + at::eye(h.size(0), h.options()) * (kFloor * mean);
}

}  // namespace rwkv::press

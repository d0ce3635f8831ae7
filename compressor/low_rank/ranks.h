// How many ranks each matrix gets, if not all of them have the same factor.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace rwkv::press {

/// A matrix that will become a pair.
struct RankCandidate {
  at::Tensor energies;  ///< output energies, descending, f64 (see factorise.h)
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t per_rank() const { return rows + cols; }  ///< numbers that one rank costs
};

/// The least rank that keeps `share` (above 0, at most 1) of the energy.
int64_t rank_for_energy(const at::Tensor& energies, double share);

/// Ranks, at least 1 each, whose numbers together are at most `keep` (0 to 1) of those of the dense
/// matrices: the next rank always goes where it saves the largest share of a matrix's output energy
/// per number it costs. Optimal for the sum of relative errors, which are convex in the rank.
std::vector<int64_t> ranks_for_budget(const std::vector<RankCandidate>& matrices, double keep);

}  // namespace rwkv::press

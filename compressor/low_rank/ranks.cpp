#include "compressor/low_rank/ranks.h"

#include <algorithm>
#include <queue>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

int64_t rank_for_energy(const at::Tensor& energies, double share) {
  const at::Tensor sums = energies.cumsum(0);
  const double kept = share * sums[-1].item<double>();
  const double* values = sums.data_ptr<double>();
  const auto* end = values + sums.numel();
  // Rounding may leave the last sum just below.
  const auto* found = std::lower_bound(values, end, kept * (1 - 1e-12));
  return std::min<int64_t>(found - values + 1, sums.numel());
}

std::vector<int64_t> ranks_for_budget(const std::vector<RankCandidate>& matrices, double keep) {
  struct Next {
    double gain;  ///< share of the matrix's energy per number
    size_t matrix;
    bool operator<(const Next& other) const {
      return gain < other.gain || (gain == other.gain && matrix > other.matrix);
    }
  };
  std::vector<int64_t> ranks(matrices.size(), 1);
  std::vector<double> totals;
  int64_t dense = 0;
  int64_t used = 0;
  std::priority_queue<Next> queue;
  const auto push = [&](size_t i) {
    const RankCandidate& matrix = matrices[i];
    if (ranks[i] < std::min(matrix.rows, matrix.cols)) {
      const double energy = matrix.energies.data_ptr<double>()[ranks[i]];
      queue.push({energy / totals[i] / static_cast<double>(matrix.per_rank()), i});
    }
  };
  for (size_t i = 0; i < matrices.size(); ++i) {
    const double total = matrices[i].energies.sum().item<double>();
    totals.push_back(total > 0 ? total : 1.0);
    dense += matrices[i].rows * matrices[i].cols;
    used += matrices[i].per_rank();
    push(i);
  }
  const auto budget = static_cast<int64_t>(keep * static_cast<double>(dense));
  while (!queue.empty()) {
    const size_t i = queue.top().matrix;
    queue.pop();
    if (used + matrices[i].per_rank() > budget) {
      continue;  // a cheaper matrix may still fit
    }
    used += matrices[i].per_rank();
    ++ranks[i];
    push(i);
  }
  return ranks;
}

}  // namespace rwkv::press

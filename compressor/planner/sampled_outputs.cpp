#include "compressor/planner/sampled_outputs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTile = 256;
// Of what a unit is expected to cost: the share that all have alike. None stands for many others.
constexpr double kEven = 0.2;

// What errors in each output are expected to cost, up to a factor, f64 [out].
at::Tensor expected_costs(const ProductSeen& seen, const at::Tensor& w) {
  const at::Tensor squares = seen.inputs.square().mean(0);
  const int64_t n = w.size(0);
  const at::Tensor costs = at::empty({n}, at::kDouble);
  in_tiles(n, kTile, [&](int64_t begin, int64_t end) {
    const at::Tensor g = seen.gradients.narrow(1, begin, end - begin).to(at::kFloat);
    const at::Tensor weights = at::mv(w.narrow(0, begin, end - begin).square(), squares);
    costs.narrow(0, begin, end - begin).copy_(g.square().mean(0).mul_(weights));
  });
  return costs;
}

// Chances in proportion to `costs` that add up to n; what would have more than 1 has 1.
std::vector<double> chances_of(std::vector<double> costs, double n) {
  double sum = 0;
  for (const double cost : costs) {
    sum += cost;
  }
  const double even = sum > 0 ? kEven * sum / static_cast<double>(costs.size()) : 1;
  for (double& cost : costs) {
    cost = (1 - kEven) * cost + even;
  }
  std::vector<double> chances(costs.size(), 0);
  for (bool changes = true; changes;) {
    changes = false;
    double rest = 0;
    double left = n;
    for (size_t i = 0; i < costs.size(); ++i) {
      (chances[i] < 1 ? rest : left) += chances[i] < 1 ? costs[i] : -1;
    }
    for (size_t i = 0; i < costs.size(); ++i) {
      if (chances[i] < 1) {
        chances[i] = std::min(1.0, left * costs[i] / rest);
        changes = changes || chances[i] == 1;
      }
    }
  }
  return chances;
}

}  // namespace

at::Tensor SampledOutputs::of(const at::Tensor& values) const {
  return outputs.defined() ? values.index_select(0, outputs) : values;
}

SampledOutputs sample_outputs(const ProductSeen& seen, const at::Tensor& w, int64_t unit,
                              int64_t n) {
  const int64_t n_outputs = w.size(0);
  const int64_t n_units = (n_outputs + unit - 1) / unit;
  if (n_units * unit <= n || n_outputs <= n || !at::isfinite(w).all().item<bool>()) {
    return {{}, seen};
  }
  const at::Tensor costs = expected_costs(seen, w);
  std::vector<double> of_units(static_cast<size_t>(n_units));
  for (int64_t i = 0; i < n_outputs; ++i) {
    const double cost = costs.data_ptr<double>()[i];
    of_units[static_cast<size_t>(i / unit)] += std::isfinite(cost) ? cost : 0;
  }
  const std::vector<double> chances =
      chances_of(std::move(of_units), std::max(1.0, static_cast<double>(n / unit)));
  std::vector<int64_t> outputs;
  std::vector<float> roots;
  double passed = 0.5;  // of units since the last that was taken
  for (int64_t u = 0; u < n_units; ++u) {
    const double chance = chances[static_cast<size_t>(u)];
    passed += chance;
    if (passed < 1) {
      continue;
    }
    passed -= 1;
    for (int64_t i = u * unit; i < std::min(n_outputs, (u + 1) * unit); ++i) {
      outputs.push_back(i);
      roots.push_back(static_cast<float>(std::sqrt(1 / chance)));
    }
  }
  SampledOutputs sample;
  sample.outputs = at::tensor(outputs, at::kLong);
  sample.seen.inputs = seen.inputs;
  sample.seen.gradients =
      seen.gradients.index_select(1, sample.outputs).to(at::kFloat).mul_(at::tensor(roots));
  return sample;
}

}  // namespace rwkv::press

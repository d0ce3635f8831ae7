#include "compressor/quantizers/codebook_tile.h"

#include <ATen/ops/linalg_cholesky_ex.h>

#include <algorithm>
#include <numeric>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/codebook.h"

namespace rwkv::press {
namespace {

constexpr int64_t kMostInputs = 256;
constexpr double kRidge = 1e-9;

double sum_of(const std::vector<double>& values, int64_t first, int64_t n) {
  return std::accumulate(values.begin() + first, values.begin() + first + n, 0.0);
}

}  // namespace

CodebookShape CodebookShape::of(unsigned bits, int64_t n_inputs) {
  constexpr int64_t kWeightsOfValue = 32;  // 8 bits for 32 weights are a quarter of a bit
  CodebookShape shape{};
  shape.values = int64_t{1} << bits;
  const int64_t n_stretches = (n_inputs + kMostInputs - 1) / kMostInputs;
  shape.inputs = (n_inputs + n_stretches - 1) / n_stretches;
  shape.outputs = std::max<int64_t>(1, kWeightsOfValue * shape.values / shape.inputs);
  return shape;
}

uint64_t CodebookShape::bytes(int64_t n_inputs, int64_t n_outputs) const {
  const int64_t n_codebooks =
      (n_inputs + inputs - 1) / inputs * ((n_outputs + outputs - 1) / outputs);
  int64_t bits = 0;
  while (int64_t{1} << bits < values) {
    ++bits;
  }
  constexpr int64_t kScaleBytes = 2;
  return static_cast<uint64_t>((n_inputs * n_outputs * bits + 7) / 8 +
                               n_codebooks * (values + kScaleBytes));
}

CodebookTile::CodebookTile(at::Tensor target_values, const CodebookShape& shape)
    : target(std::move(target_values)), error(-target), shape_(shape) {
  codes_.resize(static_cast<size_t>(target.numel()));
  const int64_t n_groups = (n_outputs() + shape.outputs - 1) / shape.outputs;
  codebooks_.resize(static_cast<size_t>(n_groups * n_stretches() * shape.values));
}

at::Tensor CodebookTile::values() const {
  return target + error;
}

float* CodebookTile::codebook(int64_t input, int64_t output) {
  const int64_t group = output / shape_.outputs;
  const int64_t stretch = input / shape_.inputs;
  return codebooks_.data() + (group * n_stretches() + stretch) * shape_.values;
}

void CodebookTile::choose_scales(int64_t i, const float* wanted, const float* weights) {
  if (i % shape_.inputs != 0) {
    return;
  }
  const int64_t n = n_outputs();
  const int64_t n_inputs_here = std::min(shape_.inputs, n_inputs() - i);
  std::vector<WeightedValue> points;
  for (int64_t first = 0; first < n; first += shape_.outputs) {
    points.clear();
    for (int64_t o = first; o < std::min(n, first + shape_.outputs); ++o) {
      for (int64_t k = 0; k < n_inputs_here; ++k) {
        points.push_back({wanted[k * n + o], weights[k]});
      }
    }
    const std::vector<float> centroids = centroids_of(points, shape_.values);
    float* const values =
        std::copy(centroids.begin(), centroids.end(), codebook(i, first)) - shape_.values;
    round_codebook({values, static_cast<size_t>(shape_.values)});
  }
}

void CodebookTile::choose_codes(int64_t i, const float* wanted, float* change) {
  const int64_t n = n_outputs();
  const float* weights = target.data_ptr<float>() + i * n;
  float* errors = error.data_ptr<float>() + i * n;
  for (int64_t o = 0; o < n; ++o) {
    const float* values = codebook(i, o);
    const uint8_t code = nearest_of({values, static_cast<size_t>(shape_.values)}, wanted[o]);
    const float now = values[code] - weights[o];
    codes_[static_cast<size_t>(i * n + o)] = code;
    change[o] = now - errors[o];
    errors[o] = now;
  }
}

void CodebookTile::decode(int64_t first, int64_t n_here) {
  const int64_t n = n_outputs();
  const float* weights = target.data_ptr<float>();
  float* errors = error.data_ptr<float>();
  for (int64_t i = 0; i < n_inputs(); ++i) {
    for (int64_t o = first; o < first + n_here; ++o) {
      const int64_t at = i * n + o;
      errors[at] = codebook(i, o)[codes_[static_cast<size_t>(at)]] - weights[at];
    }
  }
}

std::vector<double> CodebookTile::output_errors(const at::Tensor& moments) const {
  const at::Tensor sums = at::mm(moments, error).mul_(error).sum(0, false, at::kDouble);
  return {sums.data_ptr<double>(), sums.data_ptr<double>() + sums.numel()};
}

// With A the indicators of an output's codes, one column for each value of its codebooks: the least
// squares of (A c - w) moments (A c - w)^T over the outputs [first, first + n_here), which share
// codebooks. `products` is moments * target.
at::Tensor CodebookTile::solve(const at::Tensor& moments, const at::Tensor& products, int64_t first,
                               int64_t n_here) {
  const int64_t n = n_outputs();
  const int64_t unknowns = n_stretches() * shape_.values;
  const at::Tensor m = at::zeros({unknowns, unknowns}, at::kDouble);
  const at::Tensor right = at::zeros({unknowns, 1}, at::kDouble);
  double* const matrix = m.data_ptr<double>();
  double* const rights = right.data_ptr<double>();
  const float* const h = moments.data_ptr<float>();
  const float* const p = products.data_ptr<float>();
  std::vector<int64_t> column(static_cast<size_t>(n_inputs()));
  for (int64_t o = first; o < first + n_here; ++o) {
    for (int64_t i = 0; i < n_inputs(); ++i) {
      column[i] = i / shape_.inputs * shape_.values + codes_[static_cast<size_t>(i * n + o)];
    }
    for (int64_t i = 0; i < n_inputs(); ++i) {
      double* const row = matrix + column[i] * unknowns;
      const float* const h_row = h + i * n_inputs();
      for (int64_t j = 0; j < n_inputs(); ++j) {
        row[column[j]] += static_cast<double>(h_row[j]);
      }
      rights[column[i]] += static_cast<double>(p[i * n + o]);
    }
  }
  // Values without codes get a diagonal of their own, and become 0.
  m.diagonal().add_(kRidge * m.diagonal().mean() + 1e-300);
  const auto [lower, info] = at::linalg_cholesky_ex(m);
  return info.item<int>() == 0 ? at::cholesky_solve(right, lower) : at::Tensor();
}

void CodebookTile::fit(const at::Tensor& moments) {
  const std::vector<double> before = output_errors(moments);
  const std::vector<float> codebooks_before = codebooks_;
  const at::Tensor products = at::mm(moments, target);
  const int64_t n = n_outputs();
  const int64_t size = n_stretches() * shape_.values;
  for (int64_t first = 0; first < n; first += shape_.outputs) {
    const int64_t n_here = std::min(shape_.outputs, n - first);
    const at::Tensor solved = solve(moments, products, first, n_here);
    float* const values = codebook(0, first);
    for (int64_t k = 0; solved.defined() && k < size; k += shape_.values) {
      const double* const from = solved.data_ptr<double>() + k;
      std::transform(from, from + shape_.values, values + k,
                     [](double value) { return static_cast<float>(value); });
      round_codebook({values + k, static_cast<size_t>(shape_.values)});
    }
    decode(first, n_here);
  }
  const std::vector<double> after = output_errors(moments);
  for (int64_t first = 0; first < n; first += shape_.outputs) {
    const int64_t n_here = std::min(shape_.outputs, n - first);
    if (!(sum_of(after, first, n_here) < sum_of(before, first, n_here))) {
      const int64_t at = first / shape_.outputs * size;
      std::copy_n(codebooks_before.begin() + at, size, codebooks_.begin() + at);
      decode(first, n_here);
    }
  }
}

}  // namespace rwkv::press

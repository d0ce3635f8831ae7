#include "compressor/quantizers/fit_scales.h"

#include <ATen/ops/linalg_cholesky_ex.h>

#include <algorithm>
#include <cmath>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/scale_search.h"

namespace rwkv::press {
namespace {

constexpr double kRidge = 1e-9;
constexpr int kSweeps = 4;

// With table values A of fixed codes and scales s + d, the error of an output grows by
// d M d^T + 2 g d, where M = A^T moments A and g = A^T moments e, group by group.
struct Growth {
  at::Tensor matrix;    // M, f64 [outputs, groups, groups]
  at::Tensor gradient;  // g, f64 [outputs, groups]
};

Growth growth_of(const WeightTile& tile, const at::Tensor& moments) {
  const int64_t n = tile.n_outputs();
  const int64_t group = tile.group();
  const int64_t n_groups = tile.n_groups();
  const int64_t missing = n_groups * group - tile.n_inputs();  // of the last group
  const at::Tensor a = tile.table_values();
  const auto by_group = [&](const at::Tensor& product) {
    const at::Tensor whole =
        missing > 0 ? at::constant_pad_nd(product, {0, 0, 0, missing}, 0) : product;
    return whole.reshape({-1, group, n}).sum(1, false, at::kDouble);
  };
  const at::Tensor m = at::zeros({n_groups, n_groups, n}, at::kDouble);
  for (int64_t k = 0; k < n_groups; ++k) {
    const int64_t rest = tile.n_inputs() - k * group;
    const int64_t size = std::min(group, rest);
    const at::Tensor columns = moments.narrow(0, k * group, rest).narrow(1, k * group, size);
    const at::Tensor y = at::mm(columns, a.narrow(0, k * group, size));
    const at::Tensor sums = by_group(y.mul_(a.narrow(0, k * group, rest)));
    m.select(0, k).narrow(0, k, n_groups - k).copy_(sums);
    m.select(1, k).narrow(0, k, n_groups - k).copy_(sums);
  }
  const at::Tensor g = by_group(at::mm(moments, tile.error).mul_(a));
  return {m.permute({2, 0, 1}).contiguous(), g.t().contiguous()};
}

// Least squares for all outputs, f64 [outputs, groups]; an output whose matrix is singular in spite
// of the ridge gets NaN.
at::Tensor solve(const Growth& growth) {
  const at::Tensor diagonal = growth.matrix.diagonal(0, 1, 2);
  const at::Tensor ridge = kRidge * diagonal.mean(1, true) + 1e-300;
  const at::Tensor with_ridge = growth.matrix + at::diag_embed(ridge.expand_as(diagonal));
  const auto [lower, info] = at::linalg_cholesky_ex(with_ridge);
  const at::Tensor solved = at::cholesky_solve(growth.gradient.unsqueeze(2), lower).squeeze(2);
  return at::where(info.unsqueeze(1).ne(0), at::full_like(solved, std::nan("")), -solved);
}

// One output on its way to integer scales, or half floats.
class Rounding {
 public:
  Rounding(const WeightTile& tile, int64_t output, const double* matrix, const double* gradient)
      : matrix_(matrix), start_(gradient), n_(tile.n_groups()), halves_(tile.has_free_scales()) {
    for (int64_t k = 0; k < n_; ++k) {
      before_.push_back(tile.scale_of(k, output));
    }
  }

  // Rounds the scales before + `change`; returns the growth of the error.
  double run(const double* change) {
    double largest = 0;
    for (int64_t k = 0; k < n_; ++k) {
      largest = std::max(largest, std::abs(before_[k] + change[k]));
    }
    if (!std::all_of(change, change + n_, [](double each) { return std::isfinite(each); })) {
      return 0;
    }
    unit = halves_ ? 1.0f : static_cast<float>(largest / kMaxScale);
    scales.resize(static_cast<size_t>(n_));
    gradient_.assign(start_, start_ + n_);
    if (!(unit > 0) || !std::isfinite(unit)) {
      return 0;
    }
    for (int64_t k = 0; k < n_; ++k) {
      move(k, nearest(before_[k] + change[k]), before_[k]);
    }
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      for (int64_t k = 0; k < n_; ++k) {
        const double own = matrix_[k * n_ + k];
        if (own > 0) {
          move(k, nearest(now(k) - gradient_[k] / own), now(k));
        }
      }
    }
    double growth = 0;
    for (int64_t k = 0; k < n_; ++k) {
      growth += (now(k) - before_[k]) * (gradient_[k] + start_[k]);
    }
    return growth;
  }

  float unit = 0;
  std::vector<float> scales;

 private:
  double now(int64_t k) const { return static_cast<double>(unit * scales[k]); }
  float nearest(double scale) const {
    if (halves_) {
      return half_scale(scale);
    }
    const double limit = kMaxScale;
    return static_cast<float>(
        std::lround(std::clamp(scale / static_cast<double>(unit), -limit, limit)));
  }
  void move(int64_t k, float scale, double from) {
    scales[k] = scale;
    const double change = now(k) - from;
    for (int64_t j = 0; j < n_; ++j) {
      gradient_[j] += change * matrix_[k * n_ + j];
    }
  }

  const double* matrix_;  // [n, n]
  const double* start_;   // [n]
  int64_t n_;
  bool halves_;
  std::vector<double> before_;
  std::vector<double> gradient_;
};

}  // namespace

void fit_scales(WeightTile& tile, const at::Tensor& moments) {
  if (tile.has_given_scales()) {
    return;
  }
  const Growth growth = growth_of(tile, moments);
  const at::Tensor change = solve(growth).contiguous();
  const int64_t n_groups = change.size(1);
  for (int64_t o = 0; o < tile.n_outputs(); ++o) {
    Rounding rounding(tile, o, growth.matrix.data_ptr<double>() + o * n_groups * n_groups,
                      growth.gradient.data_ptr<double>() + o * n_groups);
    if (rounding.run(change.data_ptr<double>() + o * n_groups) < 0) {
      tile.set_scales(o, rounding.unit, rounding.scales);
    }
  }
  tile.decode();
}

}  // namespace rwkv::press

#include "compressor/quantizers/weight_tile.h"

#include <algorithm>
#include <cmath>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/scale_search.h"

namespace rwkv::press {

WeightTile::WeightTile(const at::Tensor& weights, LutMatrix& matrix, const LutCodebook& codebook,
                       Along along, int64_t group, int64_t first, int64_t n, FreeScales* free)
    : matrix_(matrix),
      codebook_(codebook),
      free_(free),
      along_(along),
      group_(group),
      first_(first) {
  target = along == Along::Inputs ? weights.narrow(0, first, n).t().contiguous()
                                  : weights.narrow(1, first, n).contiguous();
  error = -target;
  n_groups_ = ((along == Along::Inputs ? n_inputs() : n) + group - 1) / group;
  codes_.resize(static_cast<size_t>(target.numel()));
  scales_.resize(static_cast<size_t>(n_groups_ * (along == Along::Inputs ? n : n_inputs())));
  steps_.resize(static_cast<size_t>(n));
  if (free != nullptr) {
    row_scales_.assign(static_cast<size_t>(n), 1.0f);
    for (int64_t o = 0; o < n; ++o) {
      for (int64_t g = 0; g < n_groups_; ++g) {
        scales_[g * n + o] = free->steps[(first + o) * n_groups_ + g];
      }
    }
    return;
  }
  const auto from = matrix.row_scales.begin() + (along == Along::Inputs ? first : 0);
  row_scales_.assign(from, from + (along == Along::Inputs ? n : n_inputs()));
}

void WeightTile::choose_scales(int64_t i, const float* wanted, const float* weights) {
  const int64_t n = n_outputs();
  if (along_ == Along::Outputs) {
    float* scales = scales_.data() + i * n_groups_;
    for (int64_t g = 0; g < n_groups_; ++g) {
      const auto size = static_cast<size_t>(std::min(group_, n - g * group_));
      scales[g] = static_cast<float>(best_scale(codebook_, {wanted + g * group_, size}, {},
                                                row_scales_[i], static_cast<int>(scales[g])));
    }
    return;
  }
  if (i % group_ != 0 || has_given_scales()) {
    return;
  }
  std::vector<float> values(static_cast<size_t>(std::min(group_, n_inputs() - i)));
  float* scales = scales_.data() + i / group_ * n;
  for (int64_t o = 0; o < n; ++o) {
    for (size_t k = 0; k < values.size(); ++k) {
      values[k] = wanted[static_cast<int64_t>(k) * n + o];
    }
    const std::span<const float> each(weights, values.size());
    scales[o] = free_ != nullptr
                    ? best_half_scale(codebook_, values, each, scales[o])
                    : static_cast<float>(best_scale(codebook_, values, each, row_scales_[o],
                                                    static_cast<int>(scales[o])));
  }
}

const float* WeightTile::steps(int64_t i) {
  const int64_t n = n_outputs();
  const bool by_input = along_ == Along::Outputs;
  const float* scales = scales_.data() + (by_input ? i * n_groups_ : i / group_ * n);
  for (int64_t o = 0; o < n; ++o) {
    steps_[o] = by_input ? row_scales_[i] * scales[o / group_] : row_scales_[o] * scales[o];
  }
  return steps_.data();
}

void WeightTile::choose_codes(int64_t i, const float* wanted, float* change) {
  const int64_t n = n_outputs();
  const float* step = steps(i);
  const float* weights = target.data_ptr<float>() + i * n;
  float* errors = error.data_ptr<float>() + i * n;
  uint8_t* codes = codes_.data() + i * n;
  for (int64_t o = 0; o < n; ++o) {
    const uint8_t code = codebook_.nearest(std::isfinite(1 / step[o]) ? wanted[o] / step[o] : 0);
    const float now = step[o] * codebook_.value(code) - weights[o];
    codes[o] = code;
    change[o] = now - errors[o];
    errors[o] = now;
  }
}

at::Tensor WeightTile::table_values() const {
  at::Tensor values = at::empty_like(target);
  std::transform(codes_.begin(), codes_.end(), values.data_ptr<float>(),
                 [&](uint8_t code) { return codebook_.value(code); });
  return values;
}

double WeightTile::scale_of(int64_t group, int64_t output) const {
  return static_cast<double>(row_scales_[output] * scales_[group * n_outputs() + output]);
}

void WeightTile::set_scales(int64_t output, float row_scale, const std::vector<float>& scales) {
  row_scales_[output] = row_scale;
  for (size_t g = 0; g < scales.size(); ++g) {
    scales_[static_cast<int64_t>(g) * n_outputs() + output] = scales[g];
  }
}

void WeightTile::decode() {
  const int64_t n = n_outputs();
  const float* weights = target.data_ptr<float>();
  float* errors = error.data_ptr<float>();
  for (int64_t i = 0; i < n_inputs(); ++i) {
    const float* step = steps(i);
    for (int64_t o = 0; o < n; ++o) {
      errors[i * n + o] = step[o] * codebook_.value(codes_[i * n + o]) - weights[i * n + o];
    }
  }
}

void WeightTile::store() const {
  const int64_t n = n_outputs();
  const auto cols = static_cast<int64_t>(matrix_.cols);
  const auto groups = static_cast<int64_t>(matrix_.scales.size() / matrix_.rows);
  const bool by_input = along_ == Along::Outputs;
  for (int64_t i = 0; i < n_inputs(); ++i) {
    for (int64_t o = 0; o < n; ++o) {
      matrix_.codes[by_input ? i * cols + first_ + o : (first_ + o) * cols + i] = codes_[i * n + o];
    }
  }
  if (by_input) {
    for (int64_t i = 0; i < n_inputs(); ++i) {
      std::transform(scales_.begin() + i * n_groups_, scales_.begin() + (i + 1) * n_groups_,
                     matrix_.scales.begin() + i * groups + first_ / group_,
                     [](float scale) { return static_cast<int8_t>(scale); });
    }
    return;
  }
  if (free_ != nullptr) {
    for (int64_t g = 0; g < n_groups_; ++g) {
      for (int64_t o = 0; o < n; ++o) {
        free_->steps[(first_ + o) * n_groups_ + g] = scales_[g * n + o];
      }
    }
    return;
  }
  std::copy(row_scales_.begin(), row_scales_.end(), matrix_.row_scales.begin() + first_);
  for (int64_t g = 0; g < n_groups_; ++g) {
    for (int64_t o = 0; o < n; ++o) {
      matrix_.scales[(first_ + o) * groups + g] = static_cast<int8_t>(scales_[g * n + o]);
    }
  }
}

}  // namespace rwkv::press

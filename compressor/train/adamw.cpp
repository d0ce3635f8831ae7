#include "compressor/train/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace rwkv::press {
namespace {

// Numbers that one thread takes at a time.
constexpr int64_t kGrain = 1 << 15;

struct Factors {
  float beta1, beta2;
  float rate;          ///< learning rate over the first mean's bias correction
  float square_scale;  ///< 1 / sqrt(bias correction of the squares)
  float epsilon;
  float keep;  ///< 1 - learning rate * weight decay
  float gradient_scale;
};

void update(const at::Tensor& values, const at::Tensor& gradient, at::Tensor& mean,
            at::Tensor& square, const Factors& f) {
  float* const x = values.data_ptr<float>();
  const float* const g = gradient.data_ptr<float>();
  float* const m = mean.data_ptr<float>();
  float* const s = square.data_ptr<float>();
  at::parallel_for(0, values.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float slope = g[i] * f.gradient_scale;
      m[i] = f.beta1 * m[i] + (1.0f - f.beta1) * slope;
      s[i] = f.beta2 * s[i] + (1.0f - f.beta2) * slope * slope;
      x[i] = f.keep * x[i] - f.rate * m[i] / (std::sqrt(s[i]) * f.square_scale + f.epsilon);
    }
  });
}

}  // namespace

AdamW::AdamW(std::vector<Parameter> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  for (const Parameter& parameter : parameters_) {
    means_.push_back(at::zeros_like(parameter.values).set_requires_grad(false));
    squares_.push_back(at::zeros_like(parameter.values).set_requires_grad(false));
  }
}

void AdamW::step(double learning_rate, double gradient_scale, uint64_t step) {
  const at::NoGradGuard no_grad;
  const auto n = static_cast<double>(step);
  Factors f;
  f.beta1 = static_cast<float>(options_.beta1);
  f.beta2 = static_cast<float>(options_.beta2);
  f.square_scale = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(options_.beta2, n)));
  f.epsilon = static_cast<float>(options_.epsilon);
  f.gradient_scale = static_cast<float>(gradient_scale);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& gradient = parameters_[i].values.mutable_grad();
    if (!gradient.defined()) {
      continue;
    }
    const bool decays = parameters_[i].values.dim() > 1;
    const std::string& name = parameters_[i].name;
    const bool is_vocabulary = name == "emb.weight" || name == "head.weight";
    const double own_rate = learning_rate * (is_vocabulary ? options_.vocabulary_rate : 1.0);
    f.rate = static_cast<float>(own_rate / (1.0 - std::pow(options_.beta1, n)));
    f.keep = static_cast<float>(decays ? 1.0 - own_rate * options_.weight_decay : 1.0);
    update(parameters_[i].values, gradient.contiguous(), means_[i], squares_[i], f);
    gradient.reset();
  }
}

double AdamW::gradient_norm() const {
  double sum = 0;
  for (const Parameter& parameter : parameters_) {
    if (parameter.values.grad().defined()) {
      sum += parameter.values.grad().square().sum(at::kDouble).item<double>();
    }
  }
  return std::sqrt(sum);
}

}  // namespace rwkv::press

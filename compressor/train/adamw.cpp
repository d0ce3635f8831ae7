#include "compressor/train/adamw.h"

#include <cmath>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

AdamW::AdamW(std::vector<Parameter> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  for (const Parameter& parameter : parameters_) {
    adams_.emplace_back(parameter.values,
                        AdamOptions{options.beta1, options.beta2, options.epsilon});
  }
}

void AdamW::step(double learning_rate, double gradient_scale, uint64_t step) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& gradient = parameters_[i].values.mutable_grad();
    if (!gradient.defined()) {
      continue;
    }
    const std::string& name = parameters_[i].name;
    const bool is_vocabulary = name == "emb.weight" || name == "head.weight";
    const bool decays = parameters_[i].values.dim() > 1;
    adams_[i].step(gradient.contiguous(),
                   {.number = step,
                    .rate = learning_rate * (is_vocabulary ? options_.vocabulary_rate : 1.0),
                    .decay = decays ? options_.weight_decay : 0,
                    .gradient_scale = gradient_scale});
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

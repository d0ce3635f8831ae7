#include "compressor/numerics/adam.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <utility>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// Values that one thread takes at a time; fewer are not worth waking threads for.
constexpr int64_t kGrain = 1 << 15;

struct Factors {
  float beta1, beta2;
  float gain1, gain2;  ///< 1 - beta
  float rate;          ///< learning rate over the mean's bias correction
  float square_scale;  ///< 1 / sqrt(bias correction of the squares)
  float epsilon;
  float keep;  ///< 1 - learning rate * weight decay
  float gradient_scale;
};

struct Weighted {
  static void take(float& mean, float& square, float g, const Factors& f) {
    mean = f.beta1 * mean + f.gain1 * g;
    square = f.beta2 * square + f.gain2 * g * g;
  }
};

struct Increment {
  static void take(float& mean, float& square, float g, const Factors& f) {
    mean += f.gain1 * (g - mean);
    square += f.gain2 * (g * g - square);
  }
};

template <typename Mean>
void update(const at::Tensor& values, const at::Tensor& gradient, at::Tensor& mean,
            at::Tensor& square, const Factors& f) {
  float* const x = values.data_ptr<float>();
  const float* const g = gradient.data_ptr<float>();
  float* const m = mean.data_ptr<float>();
  float* const s = square.data_ptr<float>();
  at::parallel_for(0, values.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Mean::take(m[i], s[i], g[i] * f.gradient_scale, f);
      x[i] = f.keep * x[i] - f.rate * m[i] / (std::sqrt(s[i]) * f.square_scale + f.epsilon);
    }
  });
}

// The same as tensor operations, for other devices. Both means differ in rounding alone.
void update_elsewhere(at::Tensor& values, const at::Tensor& gradient, at::Tensor& mean,
                      at::Tensor& square, const Factors& f) {
  const at::Tensor g = gradient * f.gradient_scale;
  mean.mul_(f.beta1).add_(g, f.gain1);
  square.mul_(f.beta2).addcmul_(g, g, f.gain2);
  values.mul_(f.keep).addcdiv_(mean, square.sqrt().mul_(f.square_scale).add_(f.epsilon), -f.rate);
}

}  // namespace

Adam::Adam(at::Tensor values, const AdamOptions& options)
    : values_(std::move(values)),
      mean_(at::zeros_like(values_).set_requires_grad(false)),
      square_(at::zeros_like(values_).set_requires_grad(false)),
      options_(options) {}

void Adam::step(const at::Tensor& gradient, const Step& step) {
  const at::NoGradGuard no_grad;
  const auto n = static_cast<double>(step.number);
  const double correction1 = 1.0 - std::pow(options_.beta1, n);
  const double correction2 = 1.0 - std::pow(options_.beta2, n);
  Factors f;
  f.beta1 = static_cast<float>(options_.beta1);
  f.beta2 = static_cast<float>(options_.beta2);
  f.rate = static_cast<float>(step.rate / correction1);
  f.square_scale = static_cast<float>(1.0 / std::sqrt(correction2));
  f.epsilon = static_cast<float>(options_.epsilon);
  f.keep = static_cast<float>(1.0 - step.rate * step.decay);
  f.gradient_scale = static_cast<float>(step.gradient_scale);
  f.gain1 = static_cast<float>(1 - options_.beta1);
  f.gain2 = static_cast<float>(1 - options_.beta2);
  if (!values_.is_cpu()) {
    update_elsewhere(values_, gradient, mean_, square_, f);
    return;
  }
  if (options_.mean == AdamOptions::Mean::Increment) {
    update<Increment>(values_, gradient, mean_, square_, f);
  } else {
    f.gain1 = 1.0f - f.beta1;
    f.gain2 = 1.0f - f.beta2;
    update<Weighted>(values_, gradient, mean_, square_, f);
  }
}

}  // namespace rwkv::press

// Adam (Kingma and Ba 2015, arXiv 1412.6980) and AdamW (Loshchilov and Hutter, arXiv 1711.05101,
// algorithm 2) for one tensor, in one pass over memory. LibTorch's own makes about ten passes and
// keeps its state where snapshots cannot see it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace rwkv::press {

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  /// How a running mean takes a gradient g in. All are the same but for rounding; what was once
  /// trained with one keeps its bits only with that one.
  enum class Mean : uint8_t {
    Weighted,   ///< beta m + (1 - beta) g
    Increment,  ///< m + (1 - beta) (g - m)
  };
  Mean mean = Mean::Weighted;
};

class Adam {
 public:
  /// `values` f32, contiguous, on any device; changed in place by every step.
  Adam(at::Tensor values, const AdamOptions& options);

  struct Step {
    uint64_t number = 1;  ///< counts from 1
    double rate = 0;      ///< learning rate
    double decay = 0;     ///< weight decay, times the rate, apart from the gradient
    double gradient_scale = 1;
  };
  /// With `gradient` contiguous, of the values' shape and on their device. Same bits with any
  /// number of threads; a device other than the CPU rounds its own way.
  void step(const at::Tensor& gradient, const Step& step);

  /// Running means of the gradients and of their squares.
  at::Tensor& mean() { return mean_; }
  at::Tensor& square() { return square_; }

 private:
  at::Tensor values_, mean_, square_;
  AdamOptions options_;
};

}  // namespace rwkv::press

// The optimiser of a training: numerics' AdamW for every parameter, with the learning rates that
// matrices, vectors and the vocabulary's matrices have.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "compressor/model/network.h"
#include "compressor/numerics/adam.h"

namespace rwkv::press {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  ///< of matrices; vectors never decay
  /// Learning rate of emb.weight and head.weight, relative to all others. Most of their rows get
  /// tiny gradients that always point the same way (a word that did not occur), and Adam turns them
  /// into full steps, which destroys the rows of rare words.
  double vocabulary_rate = 1.0;
};

class AdamW {
 public:
  AdamW(std::vector<Parameter> parameters, const AdamWOptions& options);

  /// One step from the parameters' gradients, each times `gradient_scale` first (clipping), then
  /// frees the gradients. `step` counts from 1. A parameter without a gradient does not change.
  void step(double learning_rate, double gradient_scale, uint64_t step);

  /// Euclidean norm of all gradients together, f64 sums in a fixed order.
  double gradient_norm() const;

  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Running means of the gradients of a parameter and of their squares, in its shape.
  at::Tensor& mean(size_t parameter) { return adams_[parameter].mean(); }
  at::Tensor& square(size_t parameter) { return adams_[parameter].square(); }

 private:
  std::vector<Parameter> parameters_;
  AdamWOptions options_;
  std::vector<Adam> adams_;
};

}  // namespace rwkv::press

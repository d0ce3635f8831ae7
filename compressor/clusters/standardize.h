// Inputs with mean 0 and variance 1 in every column: ridge and learning rate then mean the same for
// every model, and the bias of a regression is the mean of its targets.
#pragma once

#include "compressor/clusters/cluster_head.h"

namespace rwkv::press {

struct Standard {
  at::Tensor mean;     ///< [D] f32
  at::Tensor inverse;  ///< [D] f32, 1 / standard deviation; 0 for columns that do not vary

  at::Tensor apply(const at::Tensor& z) const;
  /// A head for standardised inputs, as the head that gives the same for inputs as they were.
  ClusterHead undo(const ClusterHead& head) const;
};

/// Of the columns of z [n, D], f32 and contiguous.
Standard standard_of(const at::Tensor& z);

}  // namespace rwkv::press

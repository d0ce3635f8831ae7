// The clusters of a vocabulary's rows: k-means over their directions.
#pragma once

#include "compressor/numerics/kmeans.h"

namespace rwkv::press {

/// The cluster of every row, [V] int64. Rows are compared by their directions from the weighted
/// mean of all; spherical.cpp says why. What it refuses and promises is as kmeans() does.
Result<at::Tensor> spherical_kmeans(const at::Tensor& rows, const at::Tensor& weights,
                                    const KMeansOptions& options);

}  // namespace rwkv::press

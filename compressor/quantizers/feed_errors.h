// GPTQ's way through a matrix, for tiles of any kind of codes.
#pragma once

#include <algorithm>
#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/input_moments.h"

namespace rwkv::press {

/// to += factor * from, n values each.
inline void add_scaled(float* to, const float* from, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    to[i] += factor * from[i];
  }
}

/// Goes over the inputs, `block` at a time: the values wanted of a block are those that make up for
/// the errors of all inputs before it, which is one product of matrices, then those of each input
/// also for the ones before it in the block. Tile has target, error, n_inputs(), n_outputs(),
/// choose_scales() and choose_codes() as WeightTile; its groups must end where blocks end.
template <typename Tile>
void feed_errors_in_blocks(Tile& tile, const InputMoments::Triangle& triangle, int64_t block) {
  const int64_t n = tile.n_outputs();
  const float* weights = triangle.d.template data_ptr<float>();
  const at::Tensor& factor = triangle.factor;
  std::vector<float> change(static_cast<size_t>(n));
  for (int64_t first = 0; first < tile.n_inputs(); first += block) {
    const int64_t size = std::min(block, tile.n_inputs() - first);
    const at::Tensor wanted = tile.target.narrow(0, first, size).clone();
    if (first > 0) {
      const at::Tensor before = factor.narrow(0, 0, first).narrow(1, first, size);
      wanted.sub_(at::mm(before.t(), tile.error.narrow(0, 0, first)));
    }
    float* values = wanted.template data_ptr<float>();
    for (int64_t j = 0; j < size; ++j) {
      const int64_t i = first + j;
      tile.choose_scales(i, values + j * n, weights + i);
      tile.choose_codes(i, values + j * n, change.data());
      const float* error = tile.error.template data_ptr<float>() + i * n;
      const float* f = factor.template data_ptr<float>() + i * tile.n_inputs() + first;
      for (int64_t k = j + 1; k < size; ++k) {
        add_scaled(values + k * n, error, -f[k], n);
      }
    }
  }
}

}  // namespace rwkv::press

#include "compressor/clusters/standardize.h"

#include <cmath>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kColumns = 64;

}  // namespace

Standard standard_of(const at::Tensor& z) {
  const int64_t n = z.size(0);
  const int64_t cols = z.size(1);
  Standard standard{at::empty({cols}), at::empty({cols})};
  const float* data = z.data_ptr<float>();
  in_tiles(cols, kColumns, [&](int64_t begin, int64_t end) {
    std::vector<double> sum(static_cast<size_t>(end - begin), 0);
    std::vector<double> square(sum.size(), 0);
    // Offsets from the first row keep the sum of squares from losing digits to a large mean.
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t d = begin; d < end; ++d) {
        const double x = static_cast<double>(data[i * cols + d]) - static_cast<double>(data[d]);
        sum[static_cast<size_t>(d - begin)] += x;
        square[static_cast<size_t>(d - begin)] += x * x;
      }
    }
    for (int64_t d = begin; d < end; ++d) {
      const double mean = sum[static_cast<size_t>(d - begin)] / static_cast<double>(n);
      const double variance =
          square[static_cast<size_t>(d - begin)] / static_cast<double>(n) - mean * mean;
      const double centre = static_cast<double>(data[d]) + mean;
      const bool varies = variance > 1e-12 * centre * centre && variance > 1e-30;
      standard.mean.data_ptr<float>()[d] = static_cast<float>(centre);
      standard.inverse.data_ptr<float>()[d] =
          varies ? static_cast<float>(1 / std::sqrt(variance)) : 0.0f;
    }
  });
  return standard;
}

at::Tensor Standard::apply(const at::Tensor& z) const {
  return (z - mean).mul_(inverse);
}

ClusterHead Standard::undo(const ClusterHead& head) const {
  ClusterHead result{head.weight * inverse, at::empty_like(head.bias)};
  const int64_t cols = result.weight.size(1);
  const float* m = mean.data_ptr<float>();
  for (int64_t c = 0; c < result.weight.size(0); ++c) {
    const float* row = result.weight.data_ptr<float>() + c * cols;
    double shift = 0;
    for (int64_t d = 0; d < cols; ++d) {
      shift += static_cast<double>(row[d]) * static_cast<double>(m[d]);
    }
    const auto bias = static_cast<double>(head.bias.data_ptr<float>()[c]);
    result.bias.data_ptr<float>()[c] = static_cast<float>(bias - shift);
  }
  return result;
}

}  // namespace rwkv::press

#include "compressor/quantizers/choose_codes.h"

#include <algorithm>

#include "compressor/quantizers/feed_errors.h"
#include "compressor/quantizers/fit_scales.h"

namespace rwkv::press {
namespace {

// Inputs that are handled one by one before what follows from them reaches the others. A multiple
// of every group.
constexpr int64_t kBlock = 128;
constexpr int kSweeps = 2;

// Once over the inputs. With all other weights fixed, the error is least at target + error - g / h,
// g being the input's row of moments * error and h its own moment.
void descend(WeightTile& tile, const at::Tensor& moments) {
  const int64_t n = tile.n_outputs();
  std::vector<float> wanted(static_cast<size_t>(n));
  std::vector<float> change(static_cast<size_t>(n));
  for (int64_t first = 0; first < tile.n_inputs(); first += kBlock) {
    const int64_t size = std::min(kBlock, tile.n_inputs() - first);
    const at::Tensor gradient = at::mm(moments.narrow(0, first, size), tile.error);
    float* g = gradient.data_ptr<float>();
    for (int64_t j = 0; j < size; ++j) {
      const int64_t i = first + j;
      const float* h = moments.data_ptr<float>() + i * tile.n_inputs() + first;
      const float* weight = tile.target.data_ptr<float>() + i * n;
      const float* error = tile.error.data_ptr<float>() + i * n;
      for (int64_t o = 0; o < n; ++o) {
        wanted[o] = weight[o] + error[o] - g[j * n + o] / h[j];
      }
      if (tile.along() == Along::Outputs) {
        tile.choose_scales(i, wanted.data(), nullptr);
      }
      tile.choose_codes(i, wanted.data(), change.data());
      for (int64_t k = j + 1; k < size; ++k) {
        add_scaled(g + k * n, change.data(), h[k], n);
      }
    }
  }
}

}  // namespace

void round_groups(WeightTile& tile, const at::Tensor& weights) {
  std::vector<float> change(static_cast<size_t>(tile.n_outputs()));
  for (int64_t i = 0; i < tile.n_inputs(); ++i) {
    const float* wanted = tile.target.data_ptr<float>() + i * tile.n_outputs();
    tile.choose_scales(i, wanted, weights.data_ptr<float>() + i);
    tile.choose_codes(i, wanted, change.data());
  }
}

void feed_errors(WeightTile& tile, const InputMoments::Triangle& triangle) {
  feed_errors_in_blocks(tile, triangle, kBlock);
}

void refine(WeightTile& tile, const at::Tensor& moments, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    if (tile.along() == Along::Inputs) {
      fit_scales(tile, moments);
    }
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      descend(tile, moments);
    }
  }
}

}  // namespace rwkv::press

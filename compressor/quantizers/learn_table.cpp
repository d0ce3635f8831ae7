#include "compressor/quantizers/learn_table.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kRowsOfTile = 64;

// Of one code.
struct Mean {
  double product = 0;
  double weight = 0;
};

}  // namespace

LutTable learn_table(const at::Tensor& weights, const at::Tensor& squares, bool inputs_are_rows,
                     const LutMatrix& rounded, const LutKind& kind) {
  const auto rows = static_cast<int64_t>(rounded.rows);
  const auto cols = static_cast<int64_t>(rounded.cols);
  const auto groups = static_cast<int64_t>(lut_n_groups(kind, rounded.cols));
  const float* const values = weights.data_ptr<float>();
  const float* const of_inputs = squares.data_ptr<float>();
  const int64_t n_values = int64_t{1} << kind.bits;
  const int64_t n_tiles = (rows + kRowsOfTile - 1) / kRowsOfTile;
  std::vector<Mean> sums(static_cast<size_t>(n_tiles * n_values));
  in_tiles(rows, kRowsOfTile, [&](int64_t begin, int64_t end) {
    Mean* const own = sums.data() + begin / kRowsOfTile * n_values;
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const double step = static_cast<double>(rounded.row_scales[static_cast<size_t>(r)]) *
                            rounded.scales[static_cast<size_t>(r * groups + c / kind.group)];
        const double weight = static_cast<double>(of_inputs[inputs_are_rows ? r : c]) * step;
        Mean& mean = own[rounded.codes[static_cast<size_t>(r * cols + c)]];
        mean.product += weight * static_cast<double>(values[r * cols + c]);
        mean.weight += weight * step;
      }
    }
  });
  LutTable table = rounded.table;
  for (int64_t code = 0; code < n_values; ++code) {
    Mean whole;
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      whole.product += sums[static_cast<size_t>(tile * n_values + code)].product;
      whole.weight += sums[static_cast<size_t>(tile * n_values + code)].weight;
    }
    if (whole.weight > 0) {
      table[static_cast<size_t>(code)] = static_cast<int8_t>(
          std::lround(std::clamp(whole.product / whole.weight, static_cast<double>(kLutLow),
                                 static_cast<double>(kLutHigh))));
    }
  }
  return table;
}

}  // namespace rwkv::press

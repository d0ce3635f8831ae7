#include "compressor/llama_cpp/super_scales.h"

#include <algorithm>
#include <cmath>

#include "compressor/llama_cpp/block_types.h"
#include "compressor/numerics/threads.h"
#include "compressor/quantizers/scale_search.h"
#include "formats/container/ggml_super_blocks.h"

namespace rwkv::press {
namespace {

constexpr int64_t kRowsOfTile = 16;

struct Group {
  std::span<const float> x;
  std::span<const float> weights;
  float weight(size_t i) const { return weights.empty() ? 1.0f : weights[i]; }
};

// scale * code - minimum with codes 0..15; both are at least 0.
struct Affine {
  float scale = 0;
  float minimum = 0;
};

// Squared error of the nearest codes, and the line of least squares through them.
struct Fit {
  double error = 0;
  Affine line;
};

Fit fit(const Group& group, const Affine& from) {
  constexpr float kLastCode = 15;
  const float inverse = from.scale > 0 ? 1 / from.scale : 0;
  double w = 0, q = 0, qq = 0, x = 0, qx = 0;
  Fit result;
  for (size_t i = 0; i < group.x.size(); ++i) {
    const float code =
        std::clamp(std::nearbyint((group.x[i] + from.minimum) * inverse), 0.0f, kLastCode);
    const auto weight = static_cast<double>(group.weight(i));
    const auto c = static_cast<double>(code);
    const auto v = static_cast<double>(group.x[i]);
    const double off = static_cast<double>(from.scale) * c - static_cast<double>(from.minimum) - v;
    result.error += weight * off * off;
    w += weight;
    q += weight * c;
    qq += weight * c * c;
    x += weight * v;
    qx += weight * c * v;
  }
  const double determinant = w * qq - q * q;
  const double slope = determinant > 0 ? (w * qx - q * x) / determinant : 0;
  const double minimum = w > 0 ? -(x - slope * q) / w : 0;
  if (slope > 0 && minimum >= 0) {
    result.line = {static_cast<float>(slope), static_cast<float>(minimum)};
  } else if (qq > 0 && qx > 0) {
    result.line = {static_cast<float>(qx / qq), 0};
  } else {
    result.line = from;
  }
  return result;
}

// The best of several ranges, each fitted to its codes twice.
Affine best_affine(const Group& group) {
  constexpr int kTries = 21;
  constexpr float kLeast = 0.7f;
  constexpr float kStep = 0.025f;
  float low = 0;
  float high = 0;
  for (const float value : group.x) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  Affine best;
  double least = HUGE_VAL;
  for (int i = 0; i < kTries; ++i) {
    const float share = kLeast + kStep * static_cast<float>(i);
    Affine line = {(high - low) * share / 15, -low * share};
    for (int round = 0; round < 3; ++round) {
      const Fit here = fit(group, line);
      if (here.error < least) {
        least = here.error;
        best = line;
      }
      line = here.line;
    }
  }
  return best;
}

// The unit with which the largest magnitude becomes the integer `most`; 0 for zeros.
float unit_of(std::span<const float> wanted, float most) {
  float largest = 0;
  for (const float each : wanted) {
    largest = std::max(largest, std::fabs(each));
  }
  return half_scale(static_cast<double>(largest) / static_cast<double>(most));
}

void round_to_units(std::span<const float> wanted, float unit, float low, float high, int* out) {
  const float inverse = unit > 0 ? 1 / unit : 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    out[i] = static_cast<int>(std::clamp(std::nearbyint(wanted[i] * inverse), low, high));
  }
}

class Chooser {
 public:
  Chooser(DType type, std::span<const float> values, int64_t rows, int64_t cols,
          std::span<const float> weights)
      : is_affine_(type == DType::Q4_K),
        group_(block_type(type).group),
        values_(values),
        cols_(cols),
        weights_(weights) {
    result.n_groups = cols / group_;
    const auto n_blocks = static_cast<size_t>(rows * cols / kGgmlSuperBlock);
    const auto n_groups = static_cast<size_t>(rows * result.n_groups);
    result.units.resize(n_blocks);
    result.scales.resize(n_groups);
    result.min_units.resize(is_affine_ ? n_blocks : 0);
    result.minima.resize(is_affine_ ? n_groups : 0);
    for (size_t code = 0; code < kLutCols; ++code) {
      levels_[code] = static_cast<int8_t>(static_cast<int>(code) + kUniformOffset);
    }
  }

  void choose_row(int64_t row) {
    const int64_t per_block = kGgmlSuperBlock / group_;
    std::vector<float> steps(static_cast<size_t>(per_block));
    std::vector<float> minima(static_cast<size_t>(per_block));
    const LutCodebook codebook(levels_, 6);
    for (int64_t block = 0; block < cols_ / kGgmlSuperBlock; ++block) {
      for (int64_t g = 0; g < per_block; ++g) {
        const Group group = group_at(row, block * per_block + g);
        if (is_affine_) {
          const Affine line = best_affine(group);
          steps[g] = line.scale;
          minima[g] = line.minimum;
        } else {
          steps[g] = best_half_scale(codebook, group.x, group.weights, 0);
        }
      }
      store(row, block, steps, minima);
    }
  }

  ChosenScales result;

 private:
  Group group_at(int64_t row, int64_t g) const {
    const auto size = static_cast<size_t>(group_);
    const auto at = static_cast<size_t>(g * group_);
    return {values_.subspan(static_cast<size_t>(row * cols_) + at, size),
            weights_.empty() ? weights_ : weights_.subspan(at, size)};
  }

  void store(int64_t row, int64_t block, std::span<const float> steps,
             std::span<const float> minima) {
    const int64_t at = row * (cols_ / kGgmlSuperBlock) + block;
    const int64_t first = row * result.n_groups + block * static_cast<int64_t>(steps.size());
    const float most = is_affine_ ? 63 : 127;
    result.units[at] = unit_of(steps, most);
    round_to_units(steps, result.units[at], is_affine_ ? 0 : -most, most,
                   result.scales.data() + first);
    if (is_affine_) {
      result.min_units[at] = unit_of(minima, most);
      round_to_units(minima, result.min_units[at], 0, most, result.minima.data() + first);
    }
  }

  bool is_affine_;
  int64_t group_;
  std::span<const float> values_;
  int64_t cols_;
  std::span<const float> weights_;
  LutTable levels_ = {};
};

}  // namespace

float ChosenScales::step(int64_t row, int64_t group) const {
  const auto at = static_cast<size_t>(row * n_groups + group);
  return units[at / groups_of_unit()] * static_cast<float>(scales[at]);
}

float ChosenScales::offset(int64_t row, int64_t group) const {
  const auto at = static_cast<size_t>(row * n_groups + group);
  return minima.empty() ? 0 : min_units[at / groups_of_unit()] * static_cast<float>(minima[at]);
}

ChosenScales choose_super_scales(DType type, std::span<const float> values, int64_t rows,
                                 int64_t cols, std::span<const float> weights) {
  Chooser chooser(type, values, rows, cols, weights);
  in_tiles(rows, kRowsOfTile, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      chooser.choose_row(row);
    }
  });
  return std::move(chooser.result);
}

}  // namespace rwkv::press

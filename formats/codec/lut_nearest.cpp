// Scales and codes of lut matrices by least squared error: rounding to nearest, and the weighted
// form of it that quantizers use.
#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/codec/lut.h"

namespace rwkv {
namespace {

// The largest value of a group is tried at these shares of the table's largest.
constexpr int kScales = 25;
constexpr float kLeastScale = 0.55f;
constexpr float kScaleStep = 0.025f;
constexpr size_t kLanes = 4;

// Values of a group with their weights.
struct Group {
  std::span<const float> values;
  std::span<const float> weights;  // empty: all 1
  float weight(size_t i) const { return weights.empty() ? 1.0f : weights[i]; }
};

float largest_of(std::span<const float> values) {
  float largest = 0.0f;
  for (const float value : values) {
    largest = std::max(largest, std::fabs(value));
  }
  return largest;
}

// Weighted squared error in units of the scale, whose inverse is given.
template <bool kWeighted>
float error_in_steps(const Group& group, const LutCodebook& codebook, float inverse) {
  float sums[kLanes] = {};
  const size_t n = group.values.size();
  const auto add = [&](size_t i, float& sum) {
    const float value = group.values[i] * inverse;
    const float off = value - codebook.value(codebook.nearest(value));
    sum += kWeighted ? group.weights[i] * off * off : off * off;
  };
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      add(i + lane, sums[lane]);
    }
  }
  for (; i < n; ++i) {
    add(i, sums[0]);
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Weighted squared error with the scale `steps` * `unit`, in units of `unit`, which keeps squares
// of tiny values above 0. Infinite if the scale is too small to divide by.
float error_with(const Group& group, const LutCodebook& codebook, float steps, float unit) {
  const float inverse = 1.0f / (steps * unit);
  if (!std::isfinite(inverse)) {
    return HUGE_VALF;
  }
  return steps * steps *
         (group.weights.empty() ? error_in_steps<false>(group, codebook, inverse)
                                : error_in_steps<true>(group, codebook, inverse));
}

// The scale that fits the codes which `scale` gives.
float fitted(const Group& group, const LutCodebook& codebook, float scale) {
  const float inverse = 1.0f / scale;
  double products = 0;
  double squares = 0;
  for (size_t i = 0; i < group.values.size(); ++i) {
    const auto t = static_cast<double>(codebook.value(codebook.nearest(group.values[i] * inverse)));
    products += static_cast<double>(group.weight(i)) * static_cast<double>(group.values[i]) * t;
    squares += static_cast<double>(group.weight(i)) * t * t;
  }
  return squares > 0 ? static_cast<float>(products / squares) : scale;
}

// 0 for a group of zeros, and of values so small that no scale can be divided by.
float best_scale(const Group& group, const LutCodebook& codebook) {
  const float unit = largest_of(group.values) / codebook.most();
  if (!std::isfinite(1.0f / (unit * kLeastScale))) {
    return 0.0f;
  }
  float best = 0.0f;
  float least = HUGE_VALF;
  for (int i = 0; i < kScales; ++i) {
    for (const float sign : {1.0f, -1.0f}) {
      const float share = sign * (kLeastScale + kScaleStep * static_cast<float>(i));
      const float error = error_with(group, codebook, share, unit);
      if (error < least) {
        least = error;
        best = share;
      }
    }
  }
  // Weights may be so large that every error is infinite.
  return best == 0.0f ? unit : fitted(group, codebook, best * unit);
}

// `scale` in steps of the row's; of the integers next to it the one of least error.
int8_t rounded(const Group& group, const LutCodebook& codebook, float scale, float row_scale) {
  const int nearest = static_cast<int>(std::lround(scale / row_scale));
  int best = 0;
  float least = HUGE_VALF;
  for (int s = std::max(-127, nearest - 1); s <= std::min(127, nearest + 1); ++s) {
    float error = 0.0f;
    if (s == 0) {
      for (size_t i = 0; i < group.values.size(); ++i) {
        const float steps = group.values[i] / row_scale;
        error += group.weight(i) * steps * steps;
      }
    } else {
      error = error_with(group, codebook, static_cast<float>(s), row_scale);
    }
    if (error < least) {
      least = error;
      best = s;
    }
  }
  return static_cast<int8_t>(least < HUGE_VALF ? best : std::clamp(nearest, -127, 127));
}

Group group_of(std::span<const float> row, std::span<const float> weights, size_t g, size_t size) {
  const size_t begin = g * size;
  const size_t n = begin < row.size() ? std::min(size, row.size() - begin) : 0;
  return {row.subspan(std::min(begin, row.size()), n),
          weights.empty() ? weights : weights.subspan(std::min(begin, row.size()), n)};
}

}  // namespace

LutCodebook::LutCodebook(const LutTable& table, unsigned bits) {
  const size_t n = size_t{1} << bits;
  for (size_t code = 0; code < n; ++code) {
    values_[code] = static_cast<float>(table[code]);
    most_ = std::max(most_, std::fabs(values_[code]));
  }
  for (size_t cell = 0; cell < kCells; ++cell) {
    const float centre = (static_cast<float>(cell) - static_cast<float>(kCells / 2) + 0.5f) / 2;
    for (size_t code = 1; code < n; ++code) {
      if (std::fabs(values_[code] - centre) < std::fabs(values_[codes_[cell]] - centre)) {
        codes_[cell] = static_cast<uint8_t>(code);
      }
    }
  }
}

void lut_nearest_codes(std::span<const float> row, const LutCodebook& codebook, unsigned group,
                       const LutRow& out) {
  for (size_t c = 0; c < row.size(); ++c) {
    const float scale = out.row_scale * static_cast<float>(out.scales[c / group]);
    const float inverse = 1.0f / scale;
    out.codes[c] = codebook.nearest(std::isfinite(inverse) ? row[c] * inverse : 0.0f);
  }
}

void lut_nearest_row(std::span<const float> row, std::span<const float> weights,
                     const LutCodebook& codebook, unsigned group, const LutRow& out) {
  const size_t n_groups = out.scales.size();
  std::vector<float> scales(n_groups);
  for (size_t g = 0; g < n_groups; ++g) {
    const Group here = group_of(row, weights, g, group);
    scales[g] = here.values.empty() ? 0.0f : best_scale(here, codebook);
  }
  out.row_scale = largest_of(scales) / 127.0f;
  if (!std::isfinite(1.0f / out.row_scale)) {
    out.row_scale = 0.0f;  // a row of zeros, or of what counts as zeros
  }
  for (size_t g = 0; g < n_groups; ++g) {
    out.scales[g] =
        out.row_scale == 0.0f || scales[g] == 0.0f
            ? int8_t{0}
            : rounded(group_of(row, weights, g, group), codebook, scales[g], out.row_scale);
  }
  lut_nearest_codes(row, codebook, group, out);
}

}  // namespace rwkv

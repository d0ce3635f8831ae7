// Scales and codes of lut matrices by least squared error: rounding to nearest, and the weighted
// form of it that quantizers use.
#include <algorithm>
#include <array>
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

// What LutCodebook finds value by value, for a piece of a group at a time: cells first, which the
// compiler computes several at once, then their values.
class NearestValues {
 public:
  static constexpr size_t kPiece = 16;
  explicit NearestValues(const LutCodebook& codebook) : codebook_(codebook) {
    for (size_t cell = 0; cell < values_.size(); ++cell) {
      // The middle of a cell of 1/2; one code is nearest to all of it.
      const float middle = 0.5f * (static_cast<float>(cell) - kZero) + 0.25f;
      values_[cell] = codebook.value(codebook.nearest(middle));
    }
  }
  const LutCodebook& codebook() const { return codebook_; }
  // How far `n` values times `inverse` are from the nearest ones; at most kPiece.
  void distances(const float* values, size_t n, float inverse, float* out) const {
    int32_t cells[kPiece];
    for (size_t i = 0; i < n; ++i) {
      const float cell = 2.0f * (values[i] * inverse) + kZero;
      cells[i] = static_cast<int32_t>(std::min(std::max(cell, 0.0f), kLast));
    }
    for (size_t i = 0; i < n; ++i) {
      out[i] = values[i] * inverse - values_[static_cast<size_t>(cells[i])];
    }
  }

 private:
  static constexpr float kZero = 256.0f;
  static constexpr float kLast = 511.0f;
  const LutCodebook& codebook_;
  std::array<float, 512> values_ = {};
};

// Weighted squared error in units of the scale, whose inverse is given. Of part of the group, if
// that is above `enough`: sums of squares only grow, and rounding keeps their order.
template <bool kWeighted>
float error_in_steps(const Group& group, const NearestValues& nearest, float inverse,
                     float enough) {
  float sums[kLanes] = {};
  float off[NearestValues::kPiece];
  const size_t n = group.values.size();
  const auto total = [&] { return (sums[0] + sums[1]) + (sums[2] + sums[3]); };
  for (size_t first = 0; first < n; first += NearestValues::kPiece) {
    const size_t size = std::min(NearestValues::kPiece, n - first);
    nearest.distances(group.values.data() + first, size, inverse, off);
    for (size_t i = 0; i < size; ++i) {
      sums[i % kLanes] += kWeighted ? group.weights[first + i] * off[i] * off[i] : off[i] * off[i];
    }
    if (total() > enough) {
      break;
    }
  }
  return total();
}

// Weighted squared error with the scale `steps` * `unit`, in units of `unit`, which keeps squares
// of tiny values above 0. Infinite if the scale is too small to divide by. What is above `least`
// may be too small, but not as small as that.
float error_with(const Group& group, const NearestValues& nearest, float steps, float unit,
                 float least = HUGE_VALF) {
  const float inverse = 1.0f / (steps * unit);
  if (!std::isfinite(inverse)) {
    return HUGE_VALF;
  }
  const float square = steps * steps;
  const float enough = 1.0001f * least / square;
  return square * (group.weights.empty() ? error_in_steps<false>(group, nearest, inverse, enough)
                                         : error_in_steps<true>(group, nearest, inverse, enough));
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
float best_scale(const Group& group, const NearestValues& nearest) {
  const LutCodebook& codebook = nearest.codebook();
  const float unit = largest_of(group.values) / codebook.most();
  if (!std::isfinite(1.0f / (unit * kLeastScale))) {
    return 0.0f;
  }
  float best = 0.0f;
  float least = HUGE_VALF;
  int of_best = 0;
  // From the middle, where the best is most often found: the others are then given up early. Of
  // equal errors the smaller scale is taken, and of both signs the positive one.
  for (int k = 0; k < 2 * kScales; ++k) {
    const int away = (k / 2 + 1) / 2;
    const int i = kScales / 2 + (k / 2 % 2 == 0 ? away : -away);
    const float sign = k % 2 == 0 ? 1.0f : -1.0f;
    const float share = sign * (kLeastScale + kScaleStep * static_cast<float>(i));
    const float error = error_with(group, nearest, share, unit, least);
    const int place = 2 * i + k % 2;
    if (error < least || (error == least && error < HUGE_VALF && place < of_best)) {
      least = error;
      best = share;
      of_best = place;
    }
  }
  // Weights may be so large that every error is infinite.
  return best == 0.0f ? unit : fitted(group, codebook, best * unit);
}

// `scale` in steps of the row's; of the integers next to it the one of least error.
int8_t rounded(const Group& group, const NearestValues& values, float scale, float row_scale) {
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
      error = error_with(group, values, static_cast<float>(s), row_scale);
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
  const NearestValues nearest(codebook);
  std::vector<float> scales(n_groups);
  for (size_t g = 0; g < n_groups; ++g) {
    const Group here = group_of(row, weights, g, group);
    scales[g] = here.values.empty() ? 0.0f : best_scale(here, nearest);
  }
  out.row_scale = largest_of(scales) / 127.0f;
  if (!std::isfinite(1.0f / out.row_scale)) {
    out.row_scale = 0.0f;  // a row of zeros, or of what counts as zeros
  }
  for (size_t g = 0; g < n_groups; ++g) {
    out.scales[g] =
        out.row_scale == 0.0f || scales[g] == 0.0f
            ? int8_t{0}
            : rounded(group_of(row, weights, g, group), nearest, scales[g], out.row_scale);
  }
  lut_nearest_codes(row, codebook, group, out);
}

}  // namespace rwkv

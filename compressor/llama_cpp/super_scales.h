// Scales of ggml's super-blocks, and minima: small integers times half floats, chosen before codes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Of a matrix [rows, cols] in Q6_K or Q4_K; `group` values share a scale.
struct ChosenScales {
  int64_t n_groups = 0;          ///< of a row
  std::vector<float> units;      ///< [rows][cols / 256], half floats
  std::vector<float> min_units;  ///< the same of the minima; Q4_K only
  std::vector<int> scales;       ///< [rows][n_groups]
  std::vector<int> minima;       ///< the same; Q4_K only

  /// What codes are multiplied with, and what is subtracted afterwards.
  float step(int64_t row, int64_t group) const;
  float offset(int64_t row, int64_t group) const;
  /// Of a super-block.
  size_t groups_of_unit() const { return scales.size() / units.size(); }
};

/// For the least sum of squared errors, each times its column's weight; `weights` has `cols` values
/// or none, for 1. Rows in tiles on all threads, the same with any number of them.
ChosenScales choose_super_scales(DType type, std::span<const float> values, int64_t rows,
                                 int64_t cols, std::span<const float> weights);

}  // namespace rwkv::press

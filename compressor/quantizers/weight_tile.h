// Some outputs of a product with all of its inputs: the piece of a matrix that quantizers which
// learn work on. Outputs do not depend on one another, so tiles may be handled in any order, by any
// thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "formats/codec/lut.h"

namespace rwkv::press {

/// Which of the two a group of neighbours in a row of the packed matrix is.
enum class Along : uint8_t {
  Inputs,  ///< inputs of one output
  Outputs  ///< outputs of one input, as in ffn.value, which is packed transposed
};

/// Scales that are numbers of their own, in place of integers times a row's: what ggml's blocks
/// have. With Along::Inputs only.
struct FreeScales {
  std::vector<float> steps;  ///< [rows][n_groups], half floats unless they are given
  bool are_given = false;    ///< chosen already: a tile does not change them
};

/// The tensors have a row for each input, with its outputs next to one another.
class WeightTile {
 public:
  /// Outputs [first, first + n) of `weights`, f32 [rows, cols] as packed. All codes and scales are
  /// 0 and the row scales those of `matrix`. With Along::Outputs, `first` is a multiple of the
  /// group. `codebook`, `matrix` and `free` must outlive the tile. With `free` scales, row scales
  /// are 1, and only codes go to `matrix`.
  WeightTile(const at::Tensor& weights, LutMatrix& matrix, const LutCodebook& codebook, Along along,
             int64_t group, int64_t first, int64_t n, FreeScales* free = nullptr);

  Along along() const { return along_; }
  int64_t n_inputs() const { return target.size(0); }
  int64_t n_outputs() const { return target.size(1); }
  int64_t group() const { return group_; }
  /// Groups of an output or, with Along::Outputs, of an input within the tile.
  int64_t n_groups() const { return n_groups_; }
  /// Whether scales are half floats of their own, or may not be changed.
  bool has_free_scales() const { return free_ != nullptr; }
  bool has_given_scales() const { return free_ != nullptr && free_->are_given; }

  /// Chooses the scales of the groups that begin at input i, if any do. `wanted` are the values to
  /// come close to, rows of n_outputs() from input i on; `weights` those of their squared errors,
  /// one for each input from i on. A scale in force is replaced only by a better one.
  void choose_scales(int64_t i, const float* wanted, const float* weights);
  /// Chooses the codes nearest to the wanted values of input i, [n_outputs], and updates `error`;
  /// the change of `error` goes to `change`, [n_outputs].
  void choose_codes(int64_t i, const float* wanted, float* change);

  /// Table values of all codes, f32 [inputs, outputs].
  at::Tensor table_values() const;
  /// Row scale * scale of an output's group; with Along::Inputs only.
  double scale_of(int64_t group, int64_t output) const;
  /// New scales, [n_groups], and row scale of an output; with Along::Inputs only. `error` is out of
  /// date until decode().
  void set_scales(int64_t output, float row_scale, const std::vector<float>& scales);
  /// Computes `error` from codes and scales.
  void decode();

  /// Writes codes and scales to the matrix, and the row scales with Along::Inputs.
  void store() const;

  at::Tensor target;  ///< the weights, f32 [inputs, outputs]
  at::Tensor error;   ///< what codes and scales stand for, less the weights, f32 [inputs, outputs]

 private:
  // Row scale * scale of each output at input i.
  const float* steps(int64_t i);

  LutMatrix& matrix_;
  const LutCodebook& codebook_;
  FreeScales* free_;
  Along along_;
  int64_t group_;
  int64_t first_;
  int64_t n_groups_;
  std::vector<uint8_t> codes_;     // [inputs, outputs]
  std::vector<float> scales_;      // [n_groups, outputs] or [inputs, n_groups]
  std::vector<float> row_scales_;  // [outputs] or [inputs]
  std::vector<float> steps_;       // [outputs]
};

}  // namespace rwkv::press

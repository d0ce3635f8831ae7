// Some outputs of a product with all of its inputs, each stretch of weights with a codebook of its
// own: the piece that gptvq works on. As WeightTile (weight_tile.h), without scales.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace rwkv::press {

/// The weights that share a codebook: some neighbouring inputs of some neighbouring outputs.
struct CodebookShape {
  int64_t values;   ///< of a codebook: 2^bits
  int64_t inputs;   ///< fewer in the last stretch of an output
  int64_t outputs;  ///< fewer in the last codebooks of a matrix

  /// As many weights that the values, in bytes, take a quarter of a bit of each: 256 of one output
  /// with 3 bits, 512 with 4. At most 256 inputs, in even stretches.
  static CodebookShape of(unsigned bits, int64_t n_inputs);
  /// Bytes of codes and codebooks: a signed byte for each value, a half float for each codebook.
  uint64_t bytes(int64_t n_inputs, int64_t n_outputs) const;
};

/// The tensors have a row for each input, with its outputs next to one another.
class CodebookTile {
 public:
  /// Of `target`, f32 [inputs, outputs], contiguous.
  CodebookTile(at::Tensor target, const CodebookShape& shape);

  int64_t n_inputs() const { return target.size(0); }
  int64_t n_outputs() const { return target.size(1); }

  /// Learns the codebooks of the stretch that begins at input i, if one does, from `wanted`, rows
  /// of n_outputs() from input i on, and `weights`, one for each input from i on.
  void choose_scales(int64_t i, const float* wanted, const float* weights);
  /// Chooses the codes nearest to the wanted values of input i and updates `error`.
  void choose_codes(int64_t i, const float* wanted, float* change);

  /// With all codes fixed, the codebooks of least error of the outputs, e moments e^T, by least
  /// squares in double, rounded; outputs for which that is no better keep what they have.
  void fit(const at::Tensor& moments);

  /// What the codes stand for, f32 [inputs, outputs].
  at::Tensor values() const;

  at::Tensor target;
  at::Tensor error;  ///< what the codes stand for, less the target

 private:
  int64_t n_stretches() const { return (n_inputs() + shape_.inputs - 1) / shape_.inputs; }
  // The first value of the codebook of an input and an output.
  float* codebook(int64_t input, int64_t output);
  at::Tensor solve(const at::Tensor& moments, const at::Tensor& products, int64_t first, int64_t n);
  std::vector<double> output_errors(const at::Tensor& moments) const;
  void decode(int64_t first, int64_t n);

  CodebookShape shape_;
  std::vector<uint8_t> codes_;    // [inputs, outputs]
  std::vector<float> codebooks_;  // [groups of outputs][stretches][values]
};

}  // namespace rwkv::press

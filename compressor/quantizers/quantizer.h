// The interface of quantizers. A quantizer chooses the codes with which a codec stores a matrix,
// with or without statistics of the inputs of the matrix. One file each; quantizer_list() lists
// them all.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "formats/base/status.h"
#include "formats/codec/codec.h"

namespace rwkv::press {

class OutputGroups;

/// A matrix to quantize.
struct QuantizerInput {
  at::Tensor weights;  ///< f32 [rows, cols] as packed, contiguous
  /// E[x x^T] over the inputs of the product, f32 [inputs, inputs]; undefined if the matrix has no
  /// product (embedding, LoRA) or the quantizer does not learn.
  at::Tensor moments;
  /// Of the head: its outputs in groups, with moments of their own, for quantizers that use them.
  const OutputGroups* groups = nullptr;
  /// Whether the inputs of the product are the rows, as in ffn.value, which is packed transposed.
  bool inputs_are_rows = false;
  Codec codec = Codec::F32;
  uint64_t seed = 0;  ///< of the recipe
};

struct Quantized {
  std::vector<std::byte> codes;  ///< the matrix encoded in the codec
  /// Instead of codes, if stored_as() is not the codec: f32, as QuantizerInput::weights.
  at::Tensor values;
  /// Lost share of the output energy, or of the energy of the weights if there are no moments.
  double error = 0;
};

class Quantizer {
 public:
  virtual ~Quantizer() = default;
  /// True if it needs moments, which come from text.
  virtual bool learns() const { return false; }
  /// True if it uses QuantizerInput::groups.
  virtual bool uses_groups() const { return false; }
  /// The codec in which a file has its result for a matrix with a product. That is `asked`, unless
  /// it only serves to compare with: no codec holds its codes, and their values are packed in f16.
  virtual Codec stored_as(Codec asked) const { return asked; }
  /// The bytes that its codes for such a matrix take, or would take.
  virtual uint64_t bytes(const QuantizerInput& input) const;
  /// The same input gives the same codes, with any number of threads. BadInput if the codec cannot
  /// hold the weights.
  virtual Result<Quantized> quantize(const QuantizerInput& input) const = 0;
};

struct QuantizerTraits {
  const char* name;     ///< in recipes
  const char* summary;  ///< one line of description
  std::unique_ptr<Quantizer> (*make)();
};
/// The one list of quantizers.
std::span<const QuantizerTraits> quantizer_list();
/// Their names, in the order of the list.
std::vector<const char*> quantizer_names();

/// Quantized::error of `codes` for `input`.
double quantization_error(const QuantizerInput& input, std::span<const std::byte> codes);
/// The same of values, f32, in the form of the weights.
double quantization_error(const QuantizerInput& input, const at::Tensor& values);

}  // namespace rwkv::press

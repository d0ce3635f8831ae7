// A matrix that is trained as its codec holds it. In every step the parameters are rounded to
// codes, scales and a table, and the network computes with the values that these stand for, so what
// was trained is what will be packed. Rounding counts as the identity in the backward pass
// (straight-through: Bengio et al., arXiv 1308.3432).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/model/network.h"
#include "formats/base/status.h"
#include "formats/codec/codec.h"

namespace rwkv::press {

/// What is trained of a matrix that has codes.
enum class TrainCodes : uint8_t {
  None,    ///< it stays as it is
  Scales,  ///< scales and table of a lut codec; the codes stay, and so do other codecs
  All,     ///< the weights too, rounded to codes in every step
};

/// A matrix before its training.
struct CodedStart {
  std::string name;
  Codec codec = Codec::F32;
  MatrixShape shape = {};
  std::vector<std::byte> codes;  ///< in the codec
  /// f32 [rows, cols] as packed, not rounded; undefined if only the codes are known.
  at::Tensor values;
};

class CodedTensor {
 public:
  /// The first round() gives the values of start.codes: training begins with what the quantizer
  /// chose.
  static std::unique_ptr<CodedTensor> make(const CodedStart& start, TrainCodes what);
  virtual ~CodedTensor() = default;
  CodedTensor(const CodedTensor&) = delete;
  CodedTensor& operator=(const CodedTensor&) = delete;

  /// What an optimiser moves; empty if nothing does. Scales, row scales and tables are relative to
  /// where they started or to the largest possible, so one learning rate suits all.
  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Rounds the parameters; `values`, f32 [rows, cols], receives what decoding codes() gives, bit
  /// for bit. BadInput if the codec cannot hold them.
  virtual Status round(at::Tensor& values) = 0;
  /// Sets the gradients of the parameters from that of the values of the last round(), contiguous
  /// f32 [rows, cols].
  virtual void take_gradient(const at::Tensor& gradient) = 0;
  /// Where the codes that settle() keeps are.
  enum class Codes : uint8_t {
    OfLastRound,   ///< in the matrix; the parameter of the weights receives them, for snapshots
    InParameters,  ///< in that parameter, since a snapshot of a settled matrix was loaded
  };
  /// From here on the codes of a lut codec stay, and only its scales and its table move.
  virtual void settle(Codes where) { static_cast<void>(where); }
  /// Of the last round(), in the codec.
  virtual Result<std::vector<std::byte>> codes() const = 0;

 protected:
  CodedTensor() = default;
  std::vector<Parameter> parameters_;
};

}  // namespace rwkv::press

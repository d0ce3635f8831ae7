// Matrices of a model in lossy codecs: lut codecs with codes learnt from text, others rounded as
// the packer rounds them.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <utility>
#include <vector>

#include "compressor/low_rank/factorise.h"
#include "compressor/planner/choice.h"
#include "compressor/quantizers/output_groups.h"

namespace rwkv::press {

/// `values` [.., rows, cols] as the packer rounds them in this codec; lut codecs leave matrices
/// without whole groups of columns in int8.
at::Tensor rounded(const at::Tensor& values, Codec codec, Layout layout);

/// `values` [out, in], or [in, out] with Layout::Transposed as it is packed, in this codec as
/// quantizer refined chooses codes for inputs with these moments [in, in]. As rounded() if the
/// codec is no lut codec or there are no moments.
Result<at::Tensor> rounded_for(const at::Tensor& values, Codec codec, Layout layout,
                               const at::Tensor& moments);

/// The codes of dense matrices: what is learnt from moments, which need not be kept for it.
class LearntRounding {
 public:
  /// `codecs`: what to learn; those that are no lut codecs are ignored.
  explicit LearntRounding(std::span<const Codec> codecs);

  bool learns() const { return !codecs_.empty(); }
  /// Learns the codes of a matrix in every codec that it can have. With any number of threads the
  /// same codes. `groups`: of the head's outputs, or nullptr.
  Status learn(size_t index, const PlannedMatrix& matrix, const at::Tensor& values,
               const at::Tensor& moments, const OutputGroups* groups = nullptr);
  /// A matrix in a codec: learnt, or rounded to nearest.
  at::Tensor dense(size_t index, const PlannedMatrix& matrix, const at::Tensor& values,
                   Codec codec) const;
  bool has(Codec codec) const;

 private:
  std::vector<Codec> codecs_;
  std::map<std::pair<size_t, Codec>, std::vector<std::byte>> codes_;
};

/// Both factors of a pair in a codec, each as codec_for_columns() says. Learnt if there are moments
/// [in, in]: the second factor for the outputs of the first one as it is rounded.
Factors rounded_pair(const Factors& pair, Codec codec, const at::Tensor& moments);

}  // namespace rwkv::press

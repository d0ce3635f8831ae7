#include "compressor/planner/learnt_rounding.h"

#include <algorithm>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/learnt.h"
#include "compressor/stages/quantize.h"

namespace rwkv::press {
namespace {

bool is_lut(Codec codec) {
  return codec_traits(codec).lut != nullptr;
}

// Between the shape of a matrix and the one that is packed.
at::Tensor turned(const at::Tensor& values, Layout layout) {
  return (layout == Layout::Transposed ? values.transpose(-1, -2) : values).contiguous();
}

at::Tensor decoded(std::span<const std::byte> codes, Codec codec, const at::Tensor& packed) {
  const auto cols = static_cast<uint64_t>(packed.size(-1));
  const auto rows = static_cast<uint64_t>(packed.numel()) / cols;
  at::Tensor values = at::empty_like(packed);
  codec_traits(codec).decode_rows(MatrixView::of(codes.data(), codec, rows, cols), 0, rows,
                                  {values.data_ptr<float>(), rows * cols});
  return values;
}

Result<std::vector<std::byte>> learnt_codes(const at::Tensor& packed, Codec codec, Layout layout,
                                            const at::Tensor& moments,
                                            const OutputGroups* groups = nullptr) {
  QuantizerInput input;
  input.groups = groups;
  input.weights = packed;
  input.moments = moments;
  input.inputs_are_rows = layout == Layout::Transposed;
  input.codec = codec;
  RWKV_ASSIGN(Quantized quantized, make_refined_quantizer()->quantize(input));
  return std::move(quantized.codes);
}

}  // namespace

at::Tensor rounded(const at::Tensor& values, Codec codec, Layout layout) {
  const at::Tensor packed = turned(values, layout);
  const auto cols = static_cast<uint64_t>(packed.size(-1));
  const auto rows = static_cast<uint64_t>(packed.numel()) / cols;
  codec = codec_for_columns(codec, cols);
  const CodecTraits& traits = codec_traits(codec);
  if (!traits.is_lossy) {
    return values;
  }
  std::vector<std::byte> bytes(traits.encoded_bytes(rows, cols));
  const std::span<const float> in(packed.data_ptr<float>(), rows * cols);
  if (!traits.encode(in, {rows, cols}, bytes).ok()) {
    return values;  // numbers that are not finite; convert will name them
  }
  return turned(decoded(bytes, codec, packed), layout);
}

Result<at::Tensor> rounded_for(const at::Tensor& values, Codec codec, Layout layout,
                               const at::Tensor& moments) {
  const at::Tensor packed = turned(values, layout);
  codec = codec_for_columns(codec, static_cast<uint64_t>(packed.size(-1)));
  if (!is_lut(codec) || !moments.defined()) {
    return rounded(values, codec, layout);
  }
  RWKV_ASSIGN(const std::vector<std::byte> codes, learnt_codes(packed, codec, layout, moments));
  return turned(decoded(codes, codec, packed), layout);
}

LearntRounding::LearntRounding(std::span<const Codec> codecs) {
  std::copy_if(codecs.begin(), codecs.end(), std::back_inserter(codecs_), is_lut);
}

bool LearntRounding::has(Codec codec) const {
  return std::find(codecs_.begin(), codecs_.end(), codec) != codecs_.end();
}

Status LearntRounding::learn(size_t index, const PlannedMatrix& matrix, const at::Tensor& values,
                             const at::Tensor& moments, const OutputGroups* groups) {
  const at::Tensor packed = turned(values, matrix.layout);
  for (const Codec codec : codecs_) {
    if (codec_for_columns(codec, matrix.packed_cols()) != codec) {
      continue;
    }
    auto codes = learnt_codes(packed, codec, matrix.layout, moments, groups);
    RWKV_TRY(codes.status().in("tensor '" + matrix.name + "'"));
    codes_[{index, codec}] = codes.take();
  }
  return {};
}

at::Tensor LearntRounding::dense(size_t index, const PlannedMatrix& matrix,
                                 const at::Tensor& values, Codec codec) const {
  const auto found = codes_.find({index, codec});
  if (found == codes_.end()) {
    return rounded(values, codec, matrix.layout);
  }
  return turned(decoded(found->second, codec, turned(values, matrix.layout)), matrix.layout);
}

Factors rounded_pair(const Factors& pair, Codec codec, const at::Tensor& moments) {
  // Factors that are not finite stay as they are; convert will name them.
  const auto factor = [&](const at::Tensor& values, const at::Tensor& seen) {
    const auto learnt = rounded_for(values, codec, Layout::AsIs, seen);
    return learnt.ok() ? learnt.value() : values;
  };
  Factors result = pair;
  result.a = factor(pair.a, moments);
  const at::Tensor inner =
      moments.defined() ? at::mm(at::mm(result.a, moments), result.a.t()) : at::Tensor();
  result.b = factor(pair.b, inner);
  return result;
}

}  // namespace rwkv::press

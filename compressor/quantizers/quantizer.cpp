#include "compressor/quantizers/quantizer.h"

#include "compressor/low_rank/factorise.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

uint64_t Quantizer::bytes(const QuantizerInput& input) const {
  return codec_traits(input.codec)
      .encoded_bytes(static_cast<uint64_t>(input.weights.size(0)),
                     static_cast<uint64_t>(input.weights.size(1)));
}

double quantization_error(const QuantizerInput& input, std::span<const std::byte> codes) {
  const auto rows = static_cast<uint64_t>(input.weights.size(0));
  const auto cols = static_cast<uint64_t>(input.weights.size(1));
  const at::Tensor decoded = at::empty_like(input.weights);
  codec_traits(input.codec)
      .decode_rows(MatrixView::of(codes.data(), input.codec, rows, cols), 0, rows,
                   {decoded.data_ptr<float>(), rows * cols});
  return quantization_error(input, decoded);
}

double quantization_error(const QuantizerInput& input, const at::Tensor& values) {
  return input.inputs_are_rows ? relative_error(input.weights.t(), values.t(), input.moments)
                               : relative_error(input.weights, values, input.moments);
}

}  // namespace rwkv::press

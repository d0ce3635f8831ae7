#include "compressor/quantizers/quantizer.h"

#include "compressor/low_rank/factorise.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

double quantization_error(const QuantizerInput& input, std::span<const std::byte> codes) {
  const auto rows = static_cast<uint64_t>(input.weights.size(0));
  const auto cols = static_cast<uint64_t>(input.weights.size(1));
  const at::Tensor decoded = at::empty_like(input.weights);
  codec_traits(input.codec)
      .decode_rows(MatrixView::of(codes.data(), input.codec, rows, cols), 0, rows,
                   {decoded.data_ptr<float>(), rows * cols});
  return input.inputs_are_rows ? relative_error(input.weights.t(), decoded.t(), input.moments)
                               : relative_error(input.weights, decoded, input.moments);
}

}  // namespace rwkv::press

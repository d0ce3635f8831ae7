#include "compressor/quantizers/nearest.h"

#include "compressor/quantizers/lut_rounding.h"

namespace rwkv::press {
namespace {

class NearestQuantizer final : public Quantizer {
 public:
  Result<Quantized> quantize(const QuantizerInput& input) const override {
    const auto rows = static_cast<uint64_t>(input.weights.size(0));
    const auto cols = static_cast<uint64_t>(input.weights.size(1));
    const CodecTraits& codec = codec_traits(input.codec);
    Quantized result;
    result.codes.resize(codec.encoded_bytes(rows, cols));
    const std::span<const float> values(input.weights.data_ptr<float>(), rows * cols);
    RWKV_TRY(encode_on_threads(input.codec, values,
                               {rows, cols, input.inputs_are_rows ? Outputs::Cols : Outputs::Rows},
                               result.codes));
    result.error = quantization_error(input, result.codes);
    return result;
  }
};

}  // namespace

std::unique_ptr<Quantizer> make_nearest_quantizer() {
  return std::make_unique<NearestQuantizer>();
}

}  // namespace rwkv::press

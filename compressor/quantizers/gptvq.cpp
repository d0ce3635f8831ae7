#include "compressor/quantizers/gptvq.h"

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/quantizers/codebook_tile.h"
#include "compressor/quantizers/feed_errors.h"
#include "compressor/quantizers/input_moments.h"
#include "compressor/quantizers/nearest.h"
#include "formats/codec/lut.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTileOutputs = 128;

class GptvqQuantizer final : public Quantizer {
 public:
  bool learns() const override { return true; }
  Codec stored_as(Codec asked) const override {
    return codec_traits(asked).lut != nullptr ? Codec::F16 : asked;
  }
  uint64_t bytes(const QuantizerInput& input) const override;
  Result<Quantized> quantize(const QuantizerInput& input) const override;
};

// The weights, a row for each input.
at::Tensor by_input(const QuantizerInput& input) {
  return input.inputs_are_rows ? input.weights : input.weights.t().contiguous();
}

uint64_t GptvqQuantizer::bytes(const QuantizerInput& input) const {
  const LutKind* kind = codec_traits(input.codec).lut;
  if (kind == nullptr) {
    return Quantizer::bytes(input);
  }
  const int64_t n_inputs = input.weights.size(input.inputs_are_rows ? 0 : 1);
  return CodebookShape::of(kind->bits, n_inputs)
      .bytes(n_inputs, input.weights.numel() / std::max<int64_t>(1, n_inputs));
}

Result<Quantized> GptvqQuantizer::quantize(const QuantizerInput& input) const {
  const CodecTraits& codec = codec_traits(input.codec);
  if (codec.lut == nullptr || !input.moments.defined()) {
    return make_nearest_quantizer()->quantize(input);
  }
  // What f16 holds.
  constexpr float kMost = 65504;
  RWKV_TRY(check_finite(
      {input.weights.data_ptr<float>(), static_cast<size_t>(input.weights.numel())},
      {static_cast<uint64_t>(input.weights.size(0)), static_cast<uint64_t>(input.weights.size(1))},
      kMost, "gptvq"));
  const at::Tensor target = by_input(input);
  RWKV_ASSIGN(const InputMoments moments, InputMoments::of(input.moments, target.size(0)));
  RWKV_ASSIGN(const InputMoments::Triangle triangle, moments.triangle());
  const CodebookShape shape = CodebookShape::of(codec.lut->bits, target.size(0));
  const int64_t tile_outputs = shape.outputs * std::max<int64_t>(1, kTileOutputs / shape.outputs);
  const at::Tensor values = at::empty_like(target);
  in_tiles(target.size(1), tile_outputs, [&](int64_t begin, int64_t end) {
    CodebookTile tile(target.narrow(1, begin, end - begin).contiguous(), shape);
    feed_errors_in_blocks(tile, triangle, shape.inputs);
    tile.fit(moments.damped);
    values.narrow(1, begin, end - begin).copy_(tile.values());
  });
  Quantized result;
  result.values = input.inputs_are_rows ? values : values.t().contiguous();
  result.error = quantization_error(input, result.values);
  return result;
}

}  // namespace

std::unique_ptr<Quantizer> make_gptvq_quantizer() {
  return std::make_unique<GptvqQuantizer>();
}

}  // namespace rwkv::press

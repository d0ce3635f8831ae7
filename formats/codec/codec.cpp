#include "formats/codec/codec.h"

#include <array>
#include <cmath>

namespace rwkv {

std::span<const CodecTraits> codec_list() {
#define RWKV_CODEC(name, file) kCodec##name,
  static const std::array kCodecs = {RWKV_CODECS(RWKV_CODEC)};
#undef RWKV_CODEC
  return kCodecs;
}

const CodecTraits& codec_traits(Codec codec) {
  switch (codec) {
#define RWKV_CODEC(name, file) \
  case Codec::name:            \
    return kCodec##name;
    RWKV_CODECS(RWKV_CODEC)
#undef RWKV_CODEC
  }
  return kCodecF32;
}

const CodecTraits* find_codec(std::string_view name) {
  for (const CodecTraits& traits : codec_list()) {
    if (name == traits.name) {
      return &traits;
    }
  }
  return nullptr;
}

Status check_finite(std::span<const float> values, const MatrixShape& shape, float limit,
                    const char* codec) {
  for (size_t i = 0; i < values.size(); ++i) {
    // NaN fails the comparison too.
    if (!(std::fabs(values[i]) <= limit)) {
      return bad_input("row {}, column {} holds {}, which {} cannot hold (limit {}); {}",
                       shape.first_row + i / shape.cols, i % shape.cols, values[i], codec, limit,
                       std::isfinite(values[i])
                           ? "use another codec"
                           : "no codec can: take an earlier or the original checkpoint");
    }
  }
  return {};
}

uint64_t nothing_shared(uint64_t /*cols*/) {
  return 0;
}

}  // namespace rwkv

#include "formats/codec/codec.h"

#include <array>
#include <cmath>

namespace rwkv {

std::span<const CodecTraits> codec_list() {
  static const std::array<CodecTraits, 5> kCodecs = {kCodecF32, kCodecF16, kCodecI8Row, kCodecMm8,
                                                     kCodecSignRow};
  return kCodecs;
}

const CodecTraits& codec_traits(Codec codec) {
  switch (codec) {
    case Codec::F32:
      return kCodecF32;
    case Codec::F16:
      return kCodecF16;
    case Codec::I8Row:
      return kCodecI8Row;
    case Codec::Mm8:
      return kCodecMm8;
    case Codec::SignRow:
      return kCodecSignRow;
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

Status check_finite(std::span<const float> values, uint64_t cols, float limit, const char* codec) {
  for (size_t i = 0; i < values.size(); ++i) {
    // NaN fails the comparison too.
    if (!(std::fabs(values[i]) <= limit)) {
      return bad_input(
          "row {}, column {} holds {}, which {} cannot hold (limit {}); use another codec",
          i / cols, i % cols, values[i], codec, limit);
    }
  }
  return {};
}

}  // namespace rwkv

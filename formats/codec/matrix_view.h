// A matrix in some codec: where its encoded bytes are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/codec/codec_list.h"

namespace rwkv {

enum class Codec : uint8_t {
#define RWKV_CODEC(name, file) name,
  RWKV_CODECS(RWKV_CODEC)
#undef RWKV_CODEC
};

/// Not owned. The shared part and the units of rows may lie apart. If the units are not in memory,
/// `units` is null, and the other members give the shape.
struct MatrixView {
  const std::byte* shared = nullptr;
  const std::byte* units = nullptr;
  Codec codec = Codec::F32;
  uint64_t rows = 0;
  uint64_t cols = 0;

  /// A matrix whose bytes lie as in a file: the shared part, then its units.
  static MatrixView of(const std::byte* encoded, Codec codec, uint64_t rows, uint64_t cols);
  /// Rows [first, first + n) of this one; `first` is a multiple of the codec's unit_rows.
  MatrixView row_range(uint64_t first, uint64_t n) const;
};

}  // namespace rwkv

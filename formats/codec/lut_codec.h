// The traits of a lut codec, for the files of the codecs.
#pragma once

#include "formats/codec/lut.h"

namespace rwkv {

template <Codec kCodec, LutKind kKind>
struct LutFunctions {
  static constexpr LutKind kKindOf = kKind;
  static uint64_t shared_bytes(uint64_t /*cols*/) { return kLutHeader; }
  static uint64_t unit_bytes(uint64_t cols) { return lut_unit_bytes(kKind, cols); }
  static Status encode(std::span<const float> values, const MatrixShape& shape,
                       std::span<std::byte> out) {
    return lut_encode(kCodec, values, shape, out);
  }
  static void decode_rows(const MatrixView& w, uint64_t first, uint64_t n, std::span<float> out) {
    lut_decode_rows(kKind, w, first, n, out);
  }
  static double error_bound(const MatrixView& w, uint64_t row, uint64_t /*col*/, float value) {
    return lut_error_bound(kKind, w, row, value);
  }
  static Status check_shared(std::span<const std::byte> shared) {
    return lut_check_shared(kCodec, shared);
  }
};

/// `kInRows` is the same codec in rows: itself where kKind has rows.
template <Codec kCodec, LutKind kKind, Codec kInRows>
constexpr CodecTraits lut_traits(const char* name, const char* summary) {
  using Functions = LutFunctions<kCodec, kKind>;
  return {
      .codec = kCodec,
      .name = name,
      .summary = summary,
      .bits = kKind.bits,
      .is_lossy = true,
      .for_predictors = false,
      .group = kKind.group,
      .unit_rows = kKind.layout == LutLayout::Tiles ? kLutTileRows : 1,
      .shared_bytes = Functions::shared_bytes,
      .unit_bytes = Functions::unit_bytes,
      .encode = Functions::encode,
      .decode_rows = Functions::decode_rows,
      .error_bound = Functions::error_bound,
      .check_shared = Functions::check_shared,
      .lut = &Functions::kKindOf,
      .in_rows = kInRows,
  };
}

}  // namespace rwkv

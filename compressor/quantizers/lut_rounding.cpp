#include "compressor/quantizers/lut_rounding.h"

#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr int64_t kRowsOfTile = 64;

}  // namespace

LutMatrix round_to_lut(std::span<const float> values, const LutKind& kind, uint64_t rows,
                       uint64_t cols, std::span<const float> weights) {
  LutMatrix matrix = lut_matrix(kind, rows, cols);
  const LutCodebook codebook(matrix.table, kind.bits);
  in_tiles(static_cast<int64_t>(rows), kRowsOfTile, [&](int64_t begin, int64_t end) {
    for (auto row = static_cast<uint64_t>(begin); row < static_cast<uint64_t>(end); ++row) {
      lut_nearest_row(values.subspan(row * cols, cols), weights, codebook, kind.group,
                      lut_row(matrix, row));
    }
  });
  return matrix;
}

Status encode_on_threads(Codec codec, std::span<const float> values, const MatrixShape& shape,
                         std::span<std::byte> out) {
  const CodecTraits& traits = codec_traits(codec);
  if (!traits.lut) {
    return traits.encode(values, shape, out);
  }
  RWKV_TRY(check_finite(values, shape, kMostLut, traits.name));
  return lut_pack(round_to_lut(values, *traits.lut, shape.rows, shape.cols), codec, out);
}

}  // namespace rwkv::press

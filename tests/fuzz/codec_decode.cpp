// Arbitrary bytes through every codec's decode_rows, and arbitrary floats through its encode; lut
// codecs are taken apart and packed again too. The first bytes choose codec and sizes, the others
// are repeated until there are enough.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "formats/codec/codec.h"
#include "formats/codec/lut.h"

using namespace rwkv;

namespace {

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// Bitwise, for NaN equals itself here.
bool same_bits(const float* a, const float* b, size_t n) {
  return std::memcmp(a, b, n * sizeof(float)) == 0;
}

void check_decode(const CodecTraits& codec, const MatrixShape& shape,
                  std::span<const std::byte> bytes) {
  const MatrixView w = MatrixView::of(bytes.data(), codec.codec, shape.rows, shape.cols);
  std::vector<float> whole(shape.rows * shape.cols);
  codec.decode_rows(w, 0, shape.rows, whole);
  std::vector<float> row(shape.cols);
  for (uint64_t r = 0; r < shape.rows; ++r) {
    codec.decode_rows(w, r, 1, row);
    require(same_bits(row.data(), whole.data() + r * shape.cols, shape.cols));
  }
}

void check_encode(const CodecTraits& codec, const MatrixShape& shape,
                  const std::vector<float>& values) {
  std::vector<std::byte> bytes(codec.encoded_bytes(shape.rows, shape.cols));
  if (!codec.encode(values, shape, bytes).ok()) {
    return;
  }
  std::vector<float> back(values.size());
  codec.decode_rows(MatrixView::of(bytes.data(), codec.codec, shape.rows, shape.cols), 0,
                    shape.rows, back);
  if (codec.codec == Codec::F32) {
    require(same_bits(back.data(), values.data(), values.size()));
    return;
  }
  // What a codec accepts it can hold.
  for (const float value : back) {
    require(std::isfinite(value));
  }
}

// What a lut matrix consists of packs to the same bytes, or is refused; its header is one that
// models open with.
void check_lut(const CodecTraits& codec, const MatrixShape& shape, std::vector<std::byte> bytes) {
  static_cast<void>(codec.check_shared(std::span(bytes).first(kLutHeader)));
  const LutMatrix empty = lut_matrix(*codec.lut, shape.rows, shape.cols);
  std::vector<std::byte> good(bytes.size());
  require(lut_pack(empty, codec.codec, good).ok());
  std::copy_n(good.begin(), kLutHeader, bytes.begin());
  require(codec.check_shared(std::span(bytes).first(kLutHeader)).ok());
  check_decode(codec, shape, bytes);
  const MatrixView w = MatrixView::of(bytes.data(), codec.codec, shape.rows, shape.cols);
  const LutMatrix parts = lut_unpack(w);
  if (!lut_pack(parts, codec.codec, good).ok()) {
    return;
  }
  const LutMatrix again =
      lut_unpack(MatrixView::of(good.data(), codec.codec, shape.rows, shape.cols));
  require(again.codes == parts.codes && again.scales == parts.scales &&
          again.row_scales == parts.row_scales && again.table == parts.table);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kHead = 4;
  if (size <= kHead) {
    return 0;
  }
  const auto codecs = codec_list();
  const CodecTraits& codec = codecs[data[0] % codecs.size()];
  const MatrixShape shape = {data[1] % 40u + 1, data[2] % 80u + 1,
                             data[3] % 2 == 0 ? Outputs::Rows : Outputs::Cols};
  const auto fill = [&](void* out, size_t n_bytes) {
    auto* to = static_cast<uint8_t*>(out);
    for (size_t i = 0; i < n_bytes; ++i) {
      to[i] = data[kHead + i % (size - kHead)];
    }
  };
  std::vector<std::byte> bytes(codec.encoded_bytes(shape.rows, shape.cols));
  fill(bytes.data(), bytes.size());
  check_decode(codec, shape, bytes);
  if (codec.lut) {
    check_lut(codec, shape, bytes);
  }
  std::vector<float> values(shape.rows * shape.cols);
  fill(values.data(), values.size() * sizeof(float));
  check_encode(codec, shape, values);
  return 0;
}

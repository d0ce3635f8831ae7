#include "formats/codec/matrix_view.h"

#include "formats/codec/codec.h"

namespace rwkv {

MatrixView MatrixView::of(const std::byte* encoded, Codec codec, uint64_t rows, uint64_t cols) {
  return {encoded, encoded + codec_traits(codec).shared_bytes(cols), codec, rows, cols};
}

MatrixView MatrixView::row_range(uint64_t first, uint64_t n) const {
  const CodecTraits& traits = codec_traits(codec);
  MatrixView view = *this;
  view.units += first / traits.unit_rows * traits.unit_bytes(cols);
  view.rows = n;
  return view;
}

}  // namespace rwkv

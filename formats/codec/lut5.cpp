// lut5: codes of five bits into a table, in tiles of 16 rows; for matrices that are read whole.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut5 =
    lut_traits<Codec::Lut5, LutKind{5, LutLayout::Tiles, 64}, Codec::Lut5Rows>(
        "lut5", "5 bits into a table, a scale for 64 columns; tiles of 16 rows");

}  // namespace rwkv

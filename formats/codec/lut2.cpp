// lut2: codes of two bits into a table, in tiles of 16 rows; for matrices that are read whole.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut2 =
    lut_traits<Codec::Lut2, LutKind{2, LutLayout::Tiles, 32}, Codec::Lut2Rows>(
        "lut2", "2 bits into a table, a scale for 32 columns; tiles of 16 rows");

}  // namespace rwkv

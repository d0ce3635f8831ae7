// lut3: codes of three bits into a table, in tiles of 16 rows; for matrices that are read whole.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut3 =
    lut_traits<Codec::Lut3, LutKind{3, LutLayout::Tiles, 64}, Codec::Lut3Rows>(
        "lut3", "3 bits into a table, a scale for 64 columns; tiles of 16 rows");

}  // namespace rwkv

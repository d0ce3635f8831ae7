// lut4: codes of four bits into a table, in tiles of 16 rows; for matrices that are read whole.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut4 =
    lut_traits<Codec::Lut4, LutKind{4, LutLayout::Tiles, 64}, Codec::Lut4Rows>(
        "lut4", "4 bits into a table, a scale for 64 columns; tiles of 16 rows");

}  // namespace rwkv

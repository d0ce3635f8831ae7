// u6: equal steps of six bits, in tiles of 16 rows; for heads that bear less rounding than lut5.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecU6 =
    lut_traits<Codec::U6, LutKind{6, LutLayout::Tiles, 64}, Codec::U6Rows>(
        "u6", "6 bits in equal steps, a scale for 64 columns; tiles of 16 rows");

}  // namespace rwkv

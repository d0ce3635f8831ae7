// lut3_rows: the codes of lut3 in single rows; for matrices whose rows are read one by one.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut3Rows =
    lut_traits<Codec::Lut3Rows, LutKind{3, LutLayout::Rows, 64}, Codec::Lut3Rows>(
        "lut3_rows", "lut3 in rows by themselves");

}  // namespace rwkv

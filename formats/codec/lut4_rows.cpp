// lut4_rows: the codes of lut4 in single rows; for matrices whose rows are read one by one.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut4Rows =
    lut_traits<Codec::Lut4Rows, LutKind{4, LutLayout::Rows, 64}, Codec::Lut4Rows>(
        "lut4_rows", "lut4 in rows by themselves");

}  // namespace rwkv

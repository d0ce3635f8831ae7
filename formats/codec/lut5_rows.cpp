// lut5_rows: the codes of lut5 in single rows; for matrices whose rows are read one by one.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut5Rows =
    lut_traits<Codec::Lut5Rows, LutKind{5, LutLayout::Rows, 64}, Codec::Lut5Rows>(
        "lut5_rows", "lut5 in rows by themselves");

}  // namespace rwkv

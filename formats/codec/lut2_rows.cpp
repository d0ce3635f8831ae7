// lut2_rows: the codes of lut2 in single rows; for matrices whose rows are read one by one.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecLut2Rows =
    lut_traits<Codec::Lut2Rows, LutKind{2, LutLayout::Rows, 32}, Codec::Lut2Rows>(
        "lut2_rows", "lut2 in rows by themselves");

}  // namespace rwkv

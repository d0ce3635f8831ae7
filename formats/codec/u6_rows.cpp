// u6_rows: the codes of u6 in single rows; for matrices whose rows are read one by one.
#include "formats/codec/lut_codec.h"

namespace rwkv {

constinit const CodecTraits kCodecU6Rows =
    lut_traits<Codec::U6Rows, LutKind{6, LutLayout::Rows, 64}, Codec::U6Rows>(
        "u6_rows", "u6 in rows by themselves");

}  // namespace rwkv

// How a packed file lists the tensors of our codecs in GGUF, whose types know only some of them:
// f32 and f16 under their own types, every other codec as bytes. Reader and writer share it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/codec/codec.h"
#include "formats/container/gguf_metadata.h"

namespace rwkv {

/// The type under which GGUF lists a tensor in `codec`.
GgmlType listed_type(Codec codec);

/// True if each row is listed by itself: dims {width, rows...}. A codec with a shared part, or
/// whose unit is more than one row, is listed as one run of bytes: dims {n_bytes}.
bool is_listed_by_row(const CodecTraits& codec);

/// GGUF's dimensions, innermost first, of a tensor of this shape (as packed, outermost first).
std::vector<uint64_t> listed_dims(const CodecTraits& codec, std::span<const uint64_t> shape);

/// general.file_type of a model that is mostly in `codec`.
uint32_t listed_file_type(Codec codec);

/// Rows of the matrix that a tensor of this shape is: leading dimensions are folded into them.
uint64_t rows_of_shape(std::span<const uint64_t> shape);

}  // namespace rwkv

// What a quantizer that learns takes, from shapes alone.
#pragma once

#include <cstdint>

#include "compressor/numerics/needs.h"

namespace rwkv::press {

/// Of the quantizer `refined` for a packed matrix of this shape with moments, work on all threads
/// and memory besides its arguments; others take less.
Needs learnt_needs(uint64_t rows, uint64_t cols, bool inputs_are_rows);

/// What the groups of a head's rows add to that (output_groups.h), with a text of `tokens`.
Needs output_groups_needs(uint64_t n_vocab, uint64_t inputs, uint64_t tokens);

}  // namespace rwkv::press

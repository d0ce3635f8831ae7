// What a quantizer that learns takes, from shapes alone.
#pragma once

#include <cstdint>

#include "compressor/numerics/needs.h"

namespace rwkv::press {

/// Of the quantizer `refined` for a packed matrix of this shape with moments, work on all threads
/// and memory besides its arguments; others take less.
Needs learnt_needs(uint64_t rows, uint64_t cols, bool inputs_are_rows);

/// What the groups of a head's rows add to that, with a text of `tokens`, and as many groups as are
/// `asked` for (OutputGroups::count_for).
Needs output_groups_needs(uint64_t n_vocab, uint64_t inputs, uint64_t tokens, uint64_t asked = 0);

}  // namespace rwkv::press

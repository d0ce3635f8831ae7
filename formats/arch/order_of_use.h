// In which order a pass through a model reads its tensors. What is read one after the other lies
// one after the other, in a packed file and in memory: a stream that begins anew somewhere else
// costs about a microsecond.
#pragma once

#include <vector>

#include "formats/arch/identify.h"

namespace rwkv {

/// Whether a pass reads `a` before `b`: the embedding, the blocks, what follows them; in a block
/// what is multiplied by the same inputs side by side, first halves of pairs before second ones.
/// A strict weak order; tensors it has no word on come last of their block.
bool is_used_before(const TensorBinding& a, const TensorBinding& b);

/// In that order; what has the same place stays as it was.
void sort_by_use(std::vector<TensorBinding>& tensors);

}  // namespace rwkv

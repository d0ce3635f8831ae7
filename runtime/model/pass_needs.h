// What the memory of a pass must hold, counted from a model's tensors: shapes and codecs alone
// decide it, so that it is known before anything is loaded.
#pragma once

#include <cstddef>

#include "runtime/memory/packed_file.h"

namespace rwkv::edge {

/// Per token of a chunk, the most that any part of a pass needs: half a block or the head.
struct PassNeeds {
  size_t arena = 0;       ///< floats: vectors, and the inner ones of factor pairs
  size_t n_products = 0;  ///< products that may run together
  // Inputs of these products in forms other than floats (kernels.h).
  size_t integers = 0;    ///< padded columns
  size_t planes = 0;      ///< bytes
  size_t group_sums = 0;  ///< floats
  size_t byte_groups = 0;
};
PassNeeds pass_needs(const PackedFile& file);

}  // namespace rwkv::edge

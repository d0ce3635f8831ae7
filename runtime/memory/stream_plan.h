// Which weights stay in memory and which are streamed ahead of their use, at which width, and
// where.
#pragma once

#include <span>

#include "runtime/memory/residency.h"

namespace rwkv::edge {

/// Bytes in pinned memory are aligned to this.
inline constexpr uint64_t kAlignment = 64;
/// Largest pieces that a ring holds: two are enough to read one while another is used, and more
/// make up for pieces whose reading and computing take unequal times.
inline constexpr unsigned kSlots = 4;
inline constexpr unsigned kLeastSlots = 2;

struct StreamChoice {
  StreamOptions options;
  unsigned slots = kSlots;
  double kept_share = 0;  ///< of the bytes that can be streamed, at most; the others are streamed
  uint64_t weight_bytes = 0;  ///< of all pieces, at most: their widths; 0: full
  uint64_t early_bytes = 0;   ///< the same for the first tokens; 0: no narrower than later ones
};

/// Whether the products of this tensor take it in parts, and in the order of use.
bool can_be_streamed(const TensorBinding& binding, const ModelConfig& config);

/// Cuts `streamed`, in the order of use, into pieces, chooses their widths and those that stay in
/// memory, spread evenly through the order of use, and gives all of them places: adds to the
/// tensors, pieces, bytes, predictions and account of `residency`.
void plan_stream(const PackedFile& file, std::span<const TensorBinding* const> streamed,
                 const StreamChoice& choice, Residency& residency);

}  // namespace rwkv::edge

// How points are dealt out to children: points whose recipes begin alike go to the same child,
// where they share what they do alike, as long as there is enough for every child to do.
#pragma once

#include <cstddef>
#include <vector>

#include "compressor/sweep/points.h"

namespace rwkv::press {

/// `pending` are places in `points`, kept in order; at least `wanted` units if there are so many
/// points, but a training is never done in two.
std::vector<std::vector<size_t>> deal_out(const std::vector<SweepPoint>& points,
                                          const std::vector<size_t>& pending, size_t wanted);

}  // namespace rwkv::press

// How points are distributed to child processes: points whose recipes begin alike go to the same
// child, which does their common work once, as long as every child has enough to do.
#pragma once

#include <cstddef>
#include <vector>

#include "compressor/sweep/points.h"

namespace rwkv::press {

/// `pending` are indices into `points`, kept in order. Gives at least `wanted` units if there are
/// that many points, but never splits points that share a training.
std::vector<std::vector<size_t>> deal_out(const std::vector<SweepPoint>& points,
                                          const std::vector<size_t>& pending, size_t wanted);

}  // namespace rwkv::press

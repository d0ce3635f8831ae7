// Work in tiles of a fixed size, so that results do not depend on the number of threads: a matrix
// product that BLAS itself spreads over threads may round differently with each number of them.
#pragma once

#include <cstdint>
#include <functional>

namespace rwkv::press {

/// Calls `work(begin, end)` for consecutive tiles of [0, n), on LibTorch's threads. Everything of
/// LibTorch and BLAS that is called inside runs on the one thread of its tile. Tiles must not
/// write to the same place; what they return is to be added up in order afterwards.
void in_tiles(int64_t n, int64_t tile, const std::function<void(int64_t, int64_t)>& work);

/// The same for one piece of work that cannot be split, such as a Cholesky factorisation.
void on_one_thread(const std::function<void()>& work);

}  // namespace rwkv::press

// Two ways to get the same bits with any number of threads: work in tiles where it can be split,
// one thread where it cannot. A matrix product that BLAS itself spreads over threads is cut, and so
// rounded, differently for each number of them; after some hundred steps of training results have
// nothing in common.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace rwkv::press {

/// Calls `work(begin, end)` for consecutive tiles of [0, n), on LibTorch's threads. Everything of
/// LibTorch and BLAS that is called inside runs on the one thread of its tile. Tiles must not
/// write to the same place; add up what they return in order afterwards.
void in_tiles(int64_t n, int64_t tile, const std::function<void(int64_t, int64_t)>& work);

/// x w^T of x [n, in] and w [out, in], f32, in tiles of rows of x: [n, out].
at::Tensor product_in_tiles(const at::Tensor& x, const at::Tensor& w);

/// While it lives, LibTorch and an OpenBLAS built with OpenMP use `n` threads for calls from this
/// one.
class ThreadCount {
 public:
  explicit ThreadCount(int n) { at::set_num_threads(n); }
  ~ThreadCount() { at::set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_ = at::get_num_threads();
};

/// The same with one.
class SingleThread : public ThreadCount {
 public:
  SingleThread() : ThreadCount(1) {}
};

}  // namespace rwkv::press

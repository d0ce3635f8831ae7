// Makes what follows independent of the number of threads.
#pragma once

#include <ATen/Parallel.h>

namespace rwkv::press {

/// While it lives, LibTorch and an OpenBLAS built with OpenMP use one thread for calls from this
/// one. A threaded BLAS cuts a product differently, and so rounds it differently, for each number
/// of threads; after some hundred steps of training the results have nothing in common.
class SingleThread {
 public:
  SingleThread() { at::set_num_threads(1); }
  ~SingleThread() { at::set_num_threads(before_); }
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

 private:
  int before_ = at::get_num_threads();
};

}  // namespace rwkv::press

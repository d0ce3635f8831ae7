// How fast this machine reads memory: the bound that decoding is compared with.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <vector>

#include "runtime/threads/thread_pool.h"

namespace rwkv::edge {

/// Reads a buffer larger than the caches, in large pages if possible. Passes that alternate with
/// the measured work meet the same state of the machine.
class BandwidthProbe {
 public:
  explicit BandwidthProbe(unsigned n_threads);
  ~BandwidthProbe();
  BandwidthProbe(const BandwidthProbe&) = delete;
  BandwidthProbe& operator=(const BandwidthProbe&) = delete;

  void pass();
  /// Median of the passes so far, in 1e9 bytes per second; 0 if there was no memory for them.
  double median() const;

 private:
  ThreadPool pool_;
  std::span<std::byte> buffer_;
  std::vector<double> rates_;
  std::atomic<unsigned> sink_{0};  ///< result of the reads, so that they are not optimised away
};

}  // namespace rwkv::edge

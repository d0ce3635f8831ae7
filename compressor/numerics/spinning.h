// How long OpenMP's threads, with which LibTorch and OpenBLAS compute, spin while they wait for
// each other. libgomp lets them spin for milliseconds, which is fast on a machine of our own; where
// other processes want the processors, those milliseconds are taken from the very thread that is
// waited for, and a training runs at a tenth of its speed and less. libgomp reads the length from
// its environment when it is loaded, but by its manual it also spins a thousand times shorter while
// it has more threads than there are processors: so it gets more, idle ones, while the machine is
// busy.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

namespace rwkv::press {

/// While it lives libgomp has more threads than processors, and all of its threads spin briefly.
class ShortSpins {
 public:
  ShortSpins();
  ~ShortSpins();
  ShortSpins(const ShortSpins&) = delete;
  ShortSpins& operator=(const ShortSpins&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_ready_ = false;
  bool ends_ = false;
  std::thread owner_;  ///< whose team of OpenMP the idle threads are
};

/// Watches, until it is destroyed, how often the system takes a processor from this process, and
/// keeps spins short while that is often. Does nothing if the user has set GOMP_SPINCOUNT or
/// OMP_WAIT_POLICY.
class SpinWatch {
 public:
  SpinWatch();
  ~SpinWatch();
  SpinWatch(const SpinWatch&) = delete;
  SpinWatch& operator=(const SpinWatch&) = delete;
  /// Whether spins are short at the moment.
  bool keeps_short() const;

 private:
  void watch();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;
  bool keeps_short_ = false;
  std::thread watcher_;  ///< none if the user has decided
};

}  // namespace rwkv::press

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

/// What the watch saw in a tenth of a second.
struct SpinSigns {
  long n_displaced = 0;    ///< how often a thread of this process lost its processor
  double own_seconds = 0;  ///< of processors, used by this process
  double others = 0;       ///< processors used by other processes, on average of the last periods
};

/// Whether others disturb this process. Both signs are needed: threads of one process that wake
/// each other are displaced too, and others may use only what this process leaves idle. Next to
/// others each thread is displaced after some milliseconds, which are few in a period if there are
/// many.
bool is_disturbed(const SpinSigns& signs);

/// Watches, until it is destroyed, how often this process loses a processor and how much other
/// processes use of those that it may run on. Keeps spins short while both are much. Does nothing
/// if the user has set GOMP_SPINCOUNT or OMP_WAIT_POLICY.
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

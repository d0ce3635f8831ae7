#include "compressor/numerics/spinning.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <optional>

namespace rwkv::press {
namespace {

constexpr std::chrono::milliseconds kPeriod{100};
constexpr int kQuietPeriods = 10;

int processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

struct Usage {
  long displaced = 0;  ///< how often another process took a processor from a thread of this one
  double seconds = 0;  ///< of processors
};

Usage usage_now() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return {usage.ru_nivcsw, seconds(usage.ru_utime) + seconds(usage.ru_stime)};
}

// Of one period. Undisturbed, a process is displaced some times a second. Beside others each thread
// is after some milliseconds, which are few in a period if there are many others.
bool is_displaced_often(const Usage& before, const Usage& now) {
  const auto n = static_cast<double>(now.displaced - before.displaced);
  return n >= 10 || (n >= 3 && n > 100 * (now.seconds - before.seconds));
}

// A thread that no signal interrupts: their handlers run where they always did.
template <typename F>
std::thread thread_without_signals(F f) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(f));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

ShortSpins::ShortSpins() {
  owner_ = thread_without_signals([this, n = processors() + 1] {
  // The threads of a team stay, asleep, until the thread that made it ends.
#pragma omp parallel num_threads(n)
    { asm volatile(""); }
    std::unique_lock lock(mutex_);
    is_ready_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return ends_; });
  });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return is_ready_; });
}

ShortSpins::~ShortSpins() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  owner_.join();
}

SpinWatch::SpinWatch() {
  if (!std::getenv("GOMP_SPINCOUNT") && !std::getenv("OMP_WAIT_POLICY")) {
    watcher_ = thread_without_signals([this] { watch(); });
  }
}

SpinWatch::~SpinWatch() {
  if (!watcher_.joinable()) {
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  watcher_.join();
}

bool SpinWatch::keeps_short() const {
  const std::lock_guard lock(mutex_);
  return keeps_short_;
}

void SpinWatch::watch() {
  std::optional<ShortSpins> short_spins;
  int n_quiet = 0;
  Usage before = usage_now();
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kPeriod, [this] { return ends_; })) {
    const Usage now = usage_now();
    const bool is_busy = is_displaced_often(before, now);
    before = now;
    n_quiet = is_busy ? 0 : n_quiet + 1;
    if (is_busy && !short_spins) {
      short_spins.emplace();
    } else if (n_quiet >= kQuietPeriods) {
      short_spins.reset();
    }
    keeps_short_ = short_spins.has_value();
  }
}

}  // namespace rwkv::press

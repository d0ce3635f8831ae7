#include "compressor/numerics/spinning.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

namespace rwkv::press {
namespace {

constexpr std::chrono::milliseconds kPeriod{100};
// Short spins can leave threads that seldom run in a bad place: both on one processor, say. They
// are then displaced seldom too, spin long again after these periods, and are placed anew.
constexpr int kQuietPeriods = 4;
constexpr double kOthersMatter = 0.3;  // processors
constexpr double kNewest = 0.3;        // share of the newest period in the mean of the others

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

cpu_set_t our_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    CPU_SET(0, &set);
  }
  return set;
}

// What every process together has used of the processors of this one, in seconds since the start of
// the system; nothing if the system does not say. Time stolen by other virtual machines is not in
// it: nobody here could use what a thread that spins gives away to them.
std::optional<double> seconds_of_all() {
  const cpu_set_t ours = our_processors();
  std::ifstream stat("/proc/stat");
  double ticks = 0;
  bool is_known = false;
  for (std::string line; std::getline(stat, line) && line.rfind("cpu", 0) == 0;) {
    int number = 0;
    unsigned long user = 0;
    unsigned long nice = 0;
    unsigned long system = 0;
    if (std::sscanf(line.c_str(), "cpu%d %lu %lu %lu", &number, &user, &nice, &system) == 4 &&
        number >= 0 && number < CPU_SETSIZE && CPU_ISSET(number, &ours)) {
      ticks += static_cast<double>(user + nice + system);
      is_known = true;
    }
  }
  return is_known ? std::optional(ticks / static_cast<double>(sysconf(_SC_CLK_TCK))) : std::nullopt;
}

struct Usage {
  long displaced = 0;         ///< how often a thread of this process lost its processor
  double own = 0;             ///< seconds of processors
  std::optional<double> all;  ///< of every process
};

Usage usage_now() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return {usage.ru_nivcsw, seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime),
          seconds_of_all()};
}

// Processors that other processes used in a period of so many seconds; all that there are if the
// system does not say.
double used_by_others(const Usage& before, const Usage& now, double seconds) {
  if (!before.all || !now.all) {
    const cpu_set_t ours = our_processors();
    return CPU_COUNT(&ours);
  }
  return ((*now.all - *before.all) - (now.own - before.own)) / seconds;
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

bool is_disturbed(const SpinSigns& signs) {
  const auto n = static_cast<double>(signs.n_displaced);
  const bool is_displaced_often = n >= 10 || (n >= 3 && n > 100 * signs.own_seconds);
  return signs.others > kOthersMatter && is_displaced_often;
}

ShortSpins::ShortSpins() {
  const cpu_set_t ours = our_processors();
  const int n_threads = CPU_COUNT(&ours) + 1;
  owner_ = thread_without_signals([this, n = n_threads] {
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
  using Clock = std::chrono::steady_clock;
  std::optional<ShortSpins> short_spins;
  int n_quiet = 0;
  double others = 0;
  Usage before = usage_now();
  Clock::time_point time = Clock::now();
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kPeriod, [this] { return ends_; })) {
    const Usage now = usage_now();
    const double seconds = std::chrono::duration<double>(Clock::now() - time).count();
    others += kNewest * (used_by_others(before, now, seconds) - others);
    const bool is_busy =
        is_disturbed({now.displaced - before.displaced, now.own - before.own, others});
    before = now;
    time = Clock::now();
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

// How long OpenMP's threads spin: briefly while there are ShortSpins, and while others want the
// processors.
#include "compressor/numerics/spinning.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

using namespace rwkv::press;
using namespace std::chrono_literals;

namespace {

double processor_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// What one thread of OpenMP spends on waiting for another, which sleeps.
double spent_waiting() {
  const double before = processor_seconds();
  for (int i = 0; i < 20; ++i) {
#pragma omp parallel num_threads(2)
    {
#pragma omp master
      { std::this_thread::sleep_for(20ms); }
#pragma omp barrier
    }
  }
  return processor_seconds() - before;
}

// A process that keeps a processor busy while it lives.
class BusyProcess {
 public:
  BusyProcess() : pid_(::fork()) {
    if (pid_ == 0) {
      for (;;) {
        asm volatile("");
      }
    }
  }
  BusyProcess(const BusyProcess&) = delete;
  BusyProcess& operator=(const BusyProcess&) = delete;
  ~BusyProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_;
};

// Computes until the watch says so; false after a minute.
bool wait_for(const SpinWatch& watch, bool keeps_short) {
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (watch.keeps_short() != keeps_short) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
#pragma omp parallel
    for (int i = 0; i < 1000000; ++i) {
      asm volatile("");
    }
  }
  return true;
}

}  // namespace

TEST_CASE("With ShortSpins a thread that waits gives its processor away", "[spinning]") {
  if (std::thread::hardware_concurrency() < 2) {
    return;  // libgomp spins briefly there anyway
  }
  const double spun = spent_waiting();
  double spun_briefly = 0;
  {
    const ShortSpins short_spins;
    spun_briefly = spent_waiting();
  }
  const double spun_after = spent_waiting();
  INFO("processor seconds: " << spun << ", " << spun_briefly << ", " << spun_after);
  CHECK(spun_briefly < 0.3 * spun);
  CHECK(spun_briefly < 0.3 * spun_after);
}

TEST_CASE("Spins are short while other processes want the processors", "[spinning]") {
  const SpinWatch watch;
  const std::vector<BusyProcess> others(std::thread::hardware_concurrency());
  CHECK(wait_for(watch, true));
}

TEST_CASE("Spins become short only where others use processors and take them away", "[spinning]") {
  SpinSigns signs;
  signs.own_seconds = 0.2;
  signs.n_displaced = 1000;
  signs.others = 0.05;
  CHECK_FALSE(is_disturbed(signs));  // its own threads displace each other
  signs.others = 1.0;
  CHECK(is_disturbed(signs));
  signs.n_displaced = 0;
  CHECK_FALSE(is_disturbed(signs));  // the others use what is idle
  signs.own_seconds = 0.01;
  signs.n_displaced = 4;
  CHECK(is_disturbed(signs));  // among many others it seldom runs
}

TEST_CASE("What the user says about spinning holds", "[spinning]") {
  for (const char* name : {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}) {
    ::setenv(name, name[0] == 'G' ? "1000" : "passive", 1);
    const SpinWatch watch;
    ::unsetenv(name);
    const std::vector<BusyProcess> others(std::thread::hardware_concurrency());
    const auto end = std::chrono::steady_clock::now() + 1s;
    while (std::chrono::steady_clock::now() < end) {
      REQUIRE_FALSE(watch.keeps_short());
    }
  }
}

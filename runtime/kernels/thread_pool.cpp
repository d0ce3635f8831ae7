#include "runtime/kernels/thread_pool.h"

#include <sched.h>

#include <algorithm>

namespace rwkv::edge {
namespace {

// About 20 us of looking before sleeping: longer than the gap between two products of a layer,
// shorter than what a busy machine would notice.
constexpr int kSpins = 2000;

inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(unsigned n_threads) {
  try {
    for (unsigned thread = 1; thread < n_threads; ++thread) {
      workers_.emplace_back([this, thread] { work(thread); });
    }
  } catch (...) {
    // Where the system grants fewer threads: those that run must end before they are destroyed.
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  stopping_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) {
    worker.join();
  }
}

void ThreadPool::wait_for_job(uint32_t seen) const {
  for (int i = 0; i < kSpins; ++i) {
    if (generation_.load(std::memory_order_acquire) != seen) {
      return;
    }
    pause_briefly();
  }
  generation_.wait(seen, std::memory_order_acquire);
}

void ThreadPool::work(unsigned thread) {
  uint32_t seen = 0;
  while (true) {
    wait_for_job(seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load()) {
      return;
    }
    const Job job = job_;
    for (size_t begin; (begin = next_.fetch_add(job.chunk)) < job.n;) {
      job.call(job.f, begin, std::min(job.n, begin + job.chunk), thread);
    }
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      busy_.notify_one();
    }
  }
}

void ThreadPool::run_job(const Job& job) {
  if (workers_.empty() || job.n <= job.chunk) {
    if (job.n > 0) {
      job.call(job.f, 0, job.n, 0);
    }
    return;
  }
  job_ = job;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (size_t begin; (begin = next_.fetch_add(job.chunk)) < job.n;) {
    job.call(job.f, begin, std::min(job.n, begin + job.chunk), 0);
  }
  for (int i = 0; i < kSpins && busy_.load(std::memory_order_acquire) != 0; ++i) {
    pause_briefly();
  }
  for (uint32_t left; (left = busy_.load(std::memory_order_acquire)) != 0;) {
    busy_.wait(left, std::memory_order_acquire);
  }
}

unsigned available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) {
    return static_cast<unsigned>(CPU_COUNT(&set));
  }
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace rwkv::edge

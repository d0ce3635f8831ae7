#include "runtime/threads/thread_pool.h"

#include <sched.h>

#include <algorithm>

namespace rwkv::edge {
namespace {

// About 20 us of spinning before sleeping: longer than the gap between two products of a layer,
// short enough not to matter on a busy machine.
constexpr int kSpins = 2000;

// A ticket: 28 bits number the job, 12 say how many chunks it has, and 12 each how many are taken
// from either end of it. Threads with even numbers work from the first chunk up, the others from
// the middle up, so that each has one long stretch of memory; an idle thread takes chunks from the
// far end of the other half.
constexpr unsigned kChunkBits = 12;
constexpr unsigned kNumberShift = 3 * kChunkBits;
constexpr uint64_t kMaxChunks = (uint64_t{1} << kChunkBits) - 1;

struct Ticket {
  uint64_t bits;

  uint64_t n_chunks() const { return bits >> (2 * kChunkBits) & kMaxChunks; }
  uint64_t n_gone(bool upper) const { return bits >> (upper ? 0 : kChunkBits) & kMaxChunks; }
  bool is_left() const { return n_gone(false) + n_gone(true) < n_chunks(); }
  uint64_t after_one(bool upper) const { return bits + (uint64_t{1} << (upper ? 0 : kChunkBits)); }
  // Which chunk is next for that half.
  uint64_t next(bool upper) const {
    const uint64_t n = n_chunks();
    const uint64_t middle = n / 2;
    const uint64_t gone = n_gone(upper);
    const uint64_t own = upper ? n - middle : middle;
    if (gone < own) {
      return upper ? middle + gone : gone;
    }
    return (upper ? middle : n) - 1 - (gone - own);
  }
};

// A chunk that takes this long, and this many times longer than others, belongs to a thread that
// has lost its core: a few time slices of the system, and a delay that does not matter.
constexpr auto kStall = std::chrono::microseconds(300);
constexpr int kStallFactor = 4;
constexpr auto kLeastPenalty = std::chrono::milliseconds(5);
constexpr auto kMostPenalty = std::chrono::milliseconds(80);
constexpr int kForgiveAfter = 1;

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
    // If the system grants fewer threads, the running ones must end before they are destroyed.
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

void ThreadPool::work(unsigned thread) {
  while (true) {
    const uint32_t seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load()) {
      return;
    }
    take_chunks(thread);
    for (int i = 0; i < kSpins && generation_.load(std::memory_order_acquire) == seen; ++i) {
      pause_briefly();
    }
    generation_.wait(seen, std::memory_order_acquire);
  }
}

// Makes the chunks of a job available and returns their number.
uint32_t ThreadPool::publish(const Job& job) {
  const size_t n_chunks = (job.n + job.chunk - 1) / job.chunk;
  call_.store(job.call, std::memory_order_relaxed);
  f_.store(job.f, std::memory_order_relaxed);
  n_.store(job.n, std::memory_order_relaxed);
  chunk_.store(job.chunk, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> kNumberShift) + 1;
  ticket_.store(number << kNumberShift | n_chunks << (2 * kChunkBits), std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  return static_cast<uint32_t>(n_chunks);
}

// Works on the job until no chunk is left; returns the number of chunks done. A thread that was
// asleep since an earlier job may read a job that is being written, but then its ticket is an old
// one.
uint32_t ThreadPool::take_chunks(unsigned thread) {
  const bool upper = thread % 2 == 1;
  uint32_t n_taken = 0;
  Ticket ticket{ticket_.load(std::memory_order_acquire)};
  while (ticket.is_left()) {
    const Job job = {call_.load(std::memory_order_relaxed), f_.load(std::memory_order_relaxed),
                     n_.load(std::memory_order_relaxed), chunk_.load(std::memory_order_relaxed)};
    if (!ticket_.compare_exchange_weak(ticket.bits, ticket.after_one(upper),
                                       std::memory_order_acq_rel, std::memory_order_acquire)) {
      continue;
    }
    const size_t begin = ticket.next(upper) * job.chunk;
    job.call(job.f, begin, std::min(job.n, begin + job.chunk), thread);
    ++n_taken;
    // The last chunk of a job wakes its caller.
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == ticket.n_chunks()) {
      done_.notify_one();
    }
    ticket.bits = ticket_.load(std::memory_order_acquire);
  }
  return n_taken;
}

void ThreadPool::wait_until_done(uint32_t n_chunks) {
  for (int i = 0; i < kSpins && done_.load(std::memory_order_acquire) != n_chunks; ++i) {
    pause_briefly();
  }
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != n_chunks;) {
    done_.wait(done, std::memory_order_acquire);
  }
}

// Other processes may hold a core that one of our threads needs; then waiting for its chunk takes
// as long as they keep the core, and working alone is faster. The time of working alone doubles
// each time.
void ThreadPool::update_backoff(Clock::duration worked, uint32_t n_own, Clock::duration waited) {
  const Clock::duration usual = n_own == 0 ? worked : worked / n_own;
  if (waited > kStall && waited > kStallFactor * usual && n_own > 0) {
    penalty_ = std::clamp<Clock::duration>(2 * penalty_, kLeastPenalty, kMostPenalty);
    alone_until_ = Clock::now() + penalty_;
  }
}

void ThreadPool::run_job(Job job) {
  if (job.n == 0) {
    return;
  }
  const auto start = workers_.empty() ? Clock::time_point() : Clock::now();
  if (workers_.empty() || job.n <= job.chunk || start < alone_until_) {
    for (size_t begin = 0; begin < job.n; begin += job.chunk) {
      job.call(job.f, begin, std::min(job.n, begin + job.chunk), 0);
    }
    return;
  }
  if (start > alone_until_ + kForgiveAfter * penalty_) {
    penalty_ = {};
  }
  // A ticket counts at most kMaxChunks: larger chunks for longer jobs.
  job.chunk *= (job.n + job.chunk * kMaxChunks - 1) / (job.chunk * kMaxChunks);
  const uint32_t n_chunks = publish(job);
  const uint32_t n_own = take_chunks(0);
  const auto mine_done = Clock::now();
  wait_until_done(n_chunks);
  update_backoff(mine_done - start, n_own, Clock::now() - mine_done);
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

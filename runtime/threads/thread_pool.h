// Threads that wait for short jobs. A job is a range of items handed out in chunks, so a thread
// that loses its core delays only its own chunk; one that keeps losing it gets no work for a while.
// No allocation after construction.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace rwkv::edge {

class ThreadPool {
 public:
  /// `n_threads` counts the calling thread: 1 starts none. Threads are joined on destruction.
  /// Throws like std::thread if the system refuses; then none is left running.
  explicit ThreadPool(unsigned n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned size() const { return static_cast<unsigned>(workers_.size()) + 1; }

  /// Calls f(begin, end, thread) for disjoint ranges of `chunk` items (of a multiple of it where n
  /// is more than 4095 of them) covering [0, n), from any of the pool's threads; returns when all
  /// are done. One caller at a time. Which thread gets which range is not determined, so results
  /// may not depend on it.
  template <typename F>
  void run(size_t n, size_t chunk, const F& f) {
    run_job({&invoke<F>, &f, n, chunk == 0 ? 1 : chunk});
  }

 private:
  using Call = void (*)(const void* f, size_t begin, size_t end, unsigned thread);
  struct Job {
    Call call;
    const void* f;
    size_t n;
    size_t chunk;
  };
  using Clock = std::chrono::steady_clock;

  template <typename F>
  static void invoke(const void* f, size_t begin, size_t end, unsigned thread) {
    (*static_cast<const F*>(f))(begin, end, thread);
  }
  void run_job(Job job);
  uint32_t publish(const Job& job);
  uint32_t take_chunks(unsigned thread);
  void wait_until_done(uint32_t n_chunks);
  void update_backoff(Clock::duration worked, uint32_t n_own, Clock::duration waited);
  void work(unsigned thread);
  void stop();

  // The job. Written while no chunk is available; a thread that reads it too late finds an old
  // ticket.
  std::atomic<Call> call_{nullptr};
  std::atomic<const void*> f_{nullptr};
  std::atomic<size_t> n_{0};
  std::atomic<size_t> chunk_{1};
  std::atomic<uint64_t> ticket_{0};  ///< number of the job, its chunks, chunks taken
  std::atomic<uint32_t> done_{0};    ///< chunks that are finished
  std::atomic<uint32_t> generation_{0};
  std::atomic<bool> stopping_{false};
  Clock::time_point alone_until_{};  ///< until then the caller works alone
  Clock::duration penalty_{};
  std::vector<std::thread> workers_;
};

/// Threads that this process may run at once, at least 1.
unsigned available_threads();

}  // namespace rwkv::edge

// Threads that wait for short jobs. A job is a range of items handed out in chunks, so a thread
// that loses its core delays only its own chunk. No allocation after construction.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace rwkv::edge {

class ThreadPool {
 public:
  /// `n_threads` counts the calling thread: 1 starts none. Threads are joined on destruction.
  /// Throws what std::thread does if the system refuses; none is left running then.
  explicit ThreadPool(unsigned n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned size() const { return static_cast<unsigned>(workers_.size()) + 1; }

  /// Calls f(begin, end, thread) for disjoint ranges of at most `chunk` items covering [0, n), from
  /// any of the pool's threads; returns when all are done. One caller at a time. Which thread gets
  /// which range is not determined, so results may not depend on it.
  template <typename F>
  void run(size_t n, size_t chunk, const F& f) {
    run_job({&invoke<F>, &f, n, chunk == 0 ? 1 : chunk});
  }

 private:
  struct Job {
    void (*call)(const void* f, size_t begin, size_t end, unsigned thread) = nullptr;
    const void* f = nullptr;
    size_t n = 0;
    size_t chunk = 1;
  };
  template <typename F>
  static void invoke(const void* f, size_t begin, size_t end, unsigned thread) {
    (*static_cast<const F*>(f))(begin, end, thread);
  }
  void run_job(const Job& job);
  void work(unsigned thread);
  void stop();
  void wait_for_job(uint32_t seen) const;

  Job job_;
  std::atomic<size_t> next_{0};
  std::atomic<uint32_t> generation_{0};
  std::atomic<uint32_t> busy_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

/// Threads that this process may run at once, at least 1.
unsigned available_threads();

}  // namespace rwkv::edge

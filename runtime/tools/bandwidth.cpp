#include "runtime/tools/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "runtime/kernels/thread_pool.h"

namespace rwkv::edge {

double read_bandwidth(unsigned n_threads) {
  constexpr size_t kWords = size_t{32} << 20;  // 256 MB
  constexpr size_t kChunk = size_t{1} << 17;
  constexpr int kPasses = 4;
  constexpr size_t kLanes = 16;
  const std::vector<uint64_t> buffer(kWords, 1);
  ThreadPool pool(n_threads);
  std::atomic<uint64_t> sink{0};
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.run(kWords, kChunk, [&](size_t begin, size_t end, unsigned) {
      uint64_t lanes[kLanes] = {};
      for (size_t i = begin; i < end; i += kLanes) {
        for (size_t lane = 0; lane < kLanes; ++lane) {
          lanes[lane] += buffer[i + lane];
        }
      }
      for (const uint64_t lane : lanes) {
        sink.fetch_add(lane, std::memory_order_relaxed);
      }
    });
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(kWords * sizeof(uint64_t)) * 1e-9 / seconds);
  }
  return best;
}

}  // namespace rwkv::edge

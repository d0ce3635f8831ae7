// The thread pool: every item once, for any number of threads, awake or asleep, with cores taken
// away.
#include "runtime/threads/thread_pool.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

using namespace rwkv::edge;

TEST_CASE("ThreadPool covers every item once, for any number of threads", "[threads]") {
  const unsigned n_threads = GENERATE(1u, 2u, 3u, 8u);
  ThreadPool pool(n_threads);
  CHECK(pool.size() == n_threads);
  for (const size_t n : {0, 1, 2, 63, 64, 65, 1000, 10000}) {
    for (const size_t chunk : {1, 7, 64, 5000}) {
      std::vector<std::atomic<int>> seen(n);
      std::atomic<bool> in_range{true};  // assertions are for the main thread alone
      pool.run(n, chunk, [&](size_t begin, size_t end, unsigned thread) {
        in_range = in_range && thread < n_threads;
        for (size_t i = begin; i < end; ++i) {
          seen[i].fetch_add(1);
        }
      });
      CHECK(in_range.load());
      for (const auto& count : seen) {
        REQUIRE(count.load() == 1);
      }
    }
  }
}

TEST_CASE("ThreadPool serves many short jobs in a row", "[threads]") {
  ThreadPool pool(4);
  std::atomic<size_t> total{0};
  for (size_t job = 0; job < 20000; ++job) {
    pool.run(8, 1, [&](size_t begin, size_t end, unsigned) { total.fetch_add(end - begin); });
  }
  CHECK(total.load() == 160000);
}

TEST_CASE("ThreadPool wakes its threads after they went to sleep", "[threads]") {
  ThreadPool pool(2);
  std::atomic<size_t> total{0};
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    pool.run(100, 1, [&](size_t begin, size_t end, unsigned) { total.fetch_add(end - begin); });
  }
  CHECK(total.load() == 500);
}

TEST_CASE("ThreadPool goes on when one of its threads is held up", "[threads]") {
  ThreadPool pool(2);
  std::atomic<size_t> total{0};
  const auto main_thread = std::this_thread::get_id();
  for (int job = 0; job < 200; ++job) {
    pool.run(64, 1, [&](size_t begin, size_t end, unsigned) {
      // As if the system had given the other thread's core to someone else.
      if (std::this_thread::get_id() != main_thread) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      total.fetch_add(end - begin);
    });
  }
  CHECK(total.load() == 64 * 200);
}

// The generic kernels against plain sums in double, over awkward lengths, unaligned weights, ranges
// of rows and columns, one token and many; and the thread pool that hands them out.
#include "runtime/kernels/kernels.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>

#include "runtime/kernels/thread_pool.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::edge;
using rwkv::test::noise;

namespace {

// An encoded matrix at an odd address, with its decoded numbers.
struct Encoded {
  std::vector<std::byte> buffer;
  std::vector<float> decoded;
  MatrixView view;
};

Encoded encode(Codec codec, uint64_t rows, uint64_t cols) {
  std::vector<float> values(rows * cols);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = noise(rows * 1000 + cols, i);
  }
  const CodecTraits& traits = codec_traits(codec);
  Encoded result;
  const uint64_t n_bytes = traits.encoded_bytes(rows, cols);
  result.buffer.resize(n_bytes + 1);
  const auto bytes = std::span(result.buffer).subspan(1, n_bytes);
  REQUIRE_OK(traits.encode(values, {rows, cols, Outputs::Rows}, bytes));
  result.decoded.resize(values.size());
  traits.decode_rows(bytes, rows, cols, 0, rows, result.decoded);
  result.view = {bytes.data(), codec, rows, cols, rows, 0};
  return result;
}

std::vector<float> random_vector(size_t n, uint64_t seed) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = noise(seed, i);
  }
  return x;
}

const std::vector<uint64_t> kLengths = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 130};

}  // namespace

TEST_CASE("matmul is the product, for every codec and length", "[kernels]") {
  const Codec codec = GENERATE(Codec::F32, Codec::F16, Codec::I8Row, Codec::Mm8, Codec::SignRow);
  const size_t n_tokens = GENERATE(1, 3, 37);
  for (const uint64_t cols : kLengths) {
    const uint64_t rows = 9;
    const Encoded w = encode(codec, rows, cols);
    const std::vector<float> x = random_vector(n_tokens * cols, 7);
    std::vector<float> y(n_tokens * rows, -1.0f);
    std::vector<float> scratch(cols);
    const MatmulFn fn = kernels().matmul(codec);
    // In two ranges of rows, as threads would.
    fn(w.view, x.data(), n_tokens, y.data(), rows, 0, 4, scratch.data());
    fn(w.view, x.data(), n_tokens, y.data(), rows, 4, rows, scratch.data());
    for (size_t t = 0; t < n_tokens; ++t) {
      for (size_t r = 0; r < rows; ++r) {
        double sum = 0.0;
        for (size_t c = 0; c < cols; ++c) {
          sum +=
              static_cast<double>(w.decoded[r * cols + c]) * static_cast<double>(x[t * cols + c]);
        }
        REQUIRE(std::fabs(static_cast<double>(y[t * rows + r]) - sum) <
                1e-5 * (1.0 + std::sqrt(cols)));
      }
    }
  }
}

TEST_CASE("A range of rows of a matrix is that range of the product", "[kernels]") {
  const Codec codec = GENERATE(Codec::F32, Codec::F16, Codec::I8Row, Codec::Mm8, Codec::SignRow);
  const uint64_t cols = 33;
  const Encoded w = encode(codec, 20, cols);
  const std::vector<float> x = random_vector(cols, 3);
  std::vector<float> whole(20);
  std::vector<float> part(5);
  std::vector<float> scratch(cols);
  const MatmulFn fn = kernels().matmul(codec);
  fn(w.view, x.data(), 1, whole.data(), 20, 0, 20, scratch.data());
  fn(w.view.row_range(10, 5), x.data(), 1, part.data(), 5, 0, 5, scratch.data());
  CHECK(part == std::vector<float>(whole.begin() + 10, whole.begin() + 15));
}

TEST_CASE("accumulate is the transposed product and skips zero rows", "[kernels]") {
  const Codec codec = GENERATE(Codec::F32, Codec::F16, Codec::I8Row, Codec::Mm8, Codec::SignRow);
  const size_t n_tokens = GENERATE(1, 2, 5);
  for (const uint64_t cols : kLengths) {
    const uint64_t rows = 23;
    const Encoded w = encode(codec, rows, cols);
    std::vector<float> a = random_vector(n_tokens * rows, 11);
    for (size_t i = 0; i < a.size(); i += 2) {
      a[i] = 0.0f;
    }
    std::vector<float> y(n_tokens * cols, 99.0f);
    std::vector<float> scratch(cols);
    const AccumulateFn fn = kernels().accumulate(codec);
    const uint64_t middle = cols / 2;
    fn(w.view, a.data(), n_tokens, y.data(), 0, middle, scratch.data());
    fn(w.view, a.data(), n_tokens, y.data(), middle, cols, scratch.data());
    for (size_t t = 0; t < n_tokens; ++t) {
      for (size_t c = 0; c < cols; ++c) {
        double sum = 0.0;
        for (size_t r = 0; r < rows; ++r) {
          sum +=
              static_cast<double>(a[t * rows + r]) * static_cast<double>(w.decoded[r * cols + c]);
        }
        REQUIRE(std::fabs(static_cast<double>(y[t * cols + c]) - sum) < 1e-4);
      }
    }
  }
}

TEST_CASE("ThreadPool covers every item once, for any number of threads", "[threads]") {
  const unsigned n_threads = GENERATE(1u, 2u, 3u, 8u);
  ThreadPool pool(n_threads);
  CHECK(pool.size() == n_threads);
  for (const size_t n : {0, 1, 2, 63, 64, 65, 1000}) {
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

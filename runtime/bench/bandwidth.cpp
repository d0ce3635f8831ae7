#include "runtime/bench/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "runtime/storage/large_pages.h"

namespace rwkv::edge {
namespace {

constexpr size_t kBytes = size_t{128} << 20;
constexpr size_t kChunk = size_t{1} << 20;

// Vector types of the compiler: a loop over single numbers would wait for its additions, not for
// memory.
using Words = uint64_t __attribute__((vector_size(16)));

unsigned sum_of(const std::byte* from, size_t n) {
  constexpr size_t kLanes = 8;
  Words lanes[kLanes] = {};
  for (size_t i = 0; i < n; i += sizeof(lanes)) {
#pragma GCC unroll 8
    for (size_t lane = 0; lane < kLanes; ++lane) {
      Words words;
      std::memcpy(&words, from + i + lane * sizeof(words), sizeof(words));
      lanes[lane] += words;
    }
  }
  uint64_t sum = 0;
  for (const Words& lane : lanes) {
    sum += lane[0] + lane[1];
  }
  return static_cast<unsigned>(sum);
}

}  // namespace

BandwidthProbe::BandwidthProbe(unsigned n_threads) : pool_(n_threads) {
  if (auto buffer = map_memory(kBytes); buffer.ok()) {
    buffer_ = buffer.value().first(kBytes);
    std::memset(buffer_.data(), 1, buffer_.size());
  }
}

BandwidthProbe::~BandwidthProbe() {
  unmap_memory(buffer_);
}

void BandwidthProbe::pass() {
  const auto start = std::chrono::steady_clock::now();
  pool_.run(buffer_.size(), kChunk, [&](size_t begin, size_t end, unsigned) {
    sink_.fetch_add(sum_of(buffer_.data() + begin, end - begin), std::memory_order_relaxed);
  });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  rates_.push_back(static_cast<double>(buffer_.size()) * 1e-9 / seconds);
}

double BandwidthProbe::median() const {
  std::vector<double> rates = rates_;
  std::sort(rates.begin(), rates.end());
  return rates.empty() ? 0.0 : rates[rates.size() / 2];
}

}  // namespace rwkv::edge

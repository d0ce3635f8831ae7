// Random numbers that are the same with every standard library: its distributions and std::shuffle
// are not specified bit by bit, its engines are.
#pragma once

#include <cstdint>
#include <random>

namespace rwkv::press {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  /// Uniform in 0 .. n - 1.
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace rwkv::press

// Seeded random numbers that are the same with every standard library: its distributions and
// std::shuffle are not specified bit by bit, its engines are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace rwkv::press {

/// SplitMix64 (Steele, Lea, Flood 2014).
constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
/// Its finaliser: a well-mixed number for any number. Over seed + i * kGolden it is the stream of
/// `seed`, any number of it without the ones before.
constexpr uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t operator()() { return mix64(state_ += kGolden); }

 private:
  uint64_t state_;
};

/// What is drawn, over an engine of 64 bits.
template <typename Engine>
class SeededRandom {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  uint64_t next() { return engine_(); }
  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  /// Uniform in 0 .. n - 1, from the upper bits.
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }
  /// The same from all bits, by the remainder.
  uint64_t remainder(uint64_t n) { return next() % n; }

 private:
  Engine engine_;
};

/// Unless a caller's results were made with the other one.
using Random = SeededRandom<std::mt19937_64>;
using SplitMixRandom = SeededRandom<SplitMix64>;

}  // namespace rwkv::press

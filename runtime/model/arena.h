// Floats for the vectors that one half of a block works with, handed out one after another. The
// same code that takes them counts them beforehand, with an arena that has no memory.
#pragma once

#include <cstddef>
#include <span>

#include "formats/base/status.h"

namespace rwkv::edge {

class Arena {
 public:
  /// Only counts.
  Arena() = default;
  explicit Arena(std::span<float> memory) : memory_(memory) {}

  /// The next `n` floats, not cleared; null beyond the end.
  float* take(size_t n);
  /// Failed if more was ever taken than there is: to be asked before what was taken is used.
  Status status() const;

  size_t used() const { return used_; }
  /// Gives back what was taken since used() was `used`.
  void rewind(size_t used) { used_ = used; }
  /// The most that was taken at a time.
  size_t most() const { return most_; }

 private:
  std::span<float> memory_;
  size_t used_ = 0;
  size_t most_ = 0;
};

}  // namespace rwkv::edge

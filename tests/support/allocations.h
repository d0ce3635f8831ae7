// Counts what the whole test program allocates with operator new, in all threads.
#pragma once

#include <cstddef>

namespace rwkv::test {

/// Calls of operator new so far.
size_t n_allocations();

/// The most bytes that were allocated at a time while the object lived, beyond what was allocated
/// when it was made. One at a time.
class PeakBytes {
 public:
  PeakBytes();
  size_t value() const;

 private:
  size_t before_;
};

}  // namespace rwkv::test

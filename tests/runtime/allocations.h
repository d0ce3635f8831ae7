// Counts what the whole test program allocates with operator new, in all threads.
#pragma once

#include <cstddef>

namespace rwkv::test {

/// Calls of operator new so far.
size_t n_allocations();

}  // namespace rwkv::test

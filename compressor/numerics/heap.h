// What malloc keeps after it was freed.
#pragma once

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace rwkv::press {

/// Gives what is free in the heap back to the system. glibc keeps tensors of up to 32 MB when they
/// are freed, on every thread's own heap and in holes that the next ones do not fit, so that a
/// process grows block by block. Takes some tens of milliseconds for a gigabyte: not in inner
/// loops.
inline void return_free_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace rwkv::press

// System calls that go on after a signal, and writes that go on after a short one. The results are
// those of the system: -1 or an errno; messages are made by the callers.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

namespace rwkv {

/// Calls again as long as a signal interrupts.
template <typename Call>
auto uninterrupted(const Call& call) {
  auto result = call();
  while (result == -1 && errno == EINTR) {
    result = call();
  }
  return result;
}

/// open(), with the mode of a new file; -1 and errno as open().
int open_uninterrupted(const char* path, int flags, unsigned mode = 0);

/// Writes all of `bytes` at `offset`, in as many pieces as the system takes. 0, or an errno: ENOSPC
/// also where the system takes nothing and names no error.
int write_all_at(int fd, uint64_t offset, std::span<const std::byte> bytes);

/// Takes the only lock of an open file without waiting; the lock ends with the last descriptor of
/// this opening, so with the process at the latest. 0, or an errno: EWOULDBLOCK if another opening
/// has the lock, others where the file system has no locks.
int try_lock(int fd);

/// Makes the names in a folder permanent. 0 or an errno. A folder that may not be read, or whose
/// file system cannot do this, is no error.
int sync_folder(const char* folder);

}  // namespace rwkv

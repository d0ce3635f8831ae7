#include "formats/base/system_calls.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace rwkv {

int open_uninterrupted(const char* path, int flags, unsigned mode) {
  return uninterrupted([&] { return ::open(path, flags, mode); });
}

int write_all_at(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = uninterrupted([&] {
      return ::pwrite(fd, bytes.data() + done, bytes.size() - done,
                      static_cast<off_t>(offset + done));
    });
    if (n <= 0) {
      return n < 0 ? errno : ENOSPC;
    }
    done += static_cast<size_t>(n);
  }
  return 0;
}

int try_lock(int fd) {
  return uninterrupted([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) == 0 ? 0 : errno;
}

int sync_folder(const char* folder) {
  const int fd = open_uninterrupted(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    return errno == EACCES ? 0 : errno;
  }
  const int error = uninterrupted([&] { return ::fsync(fd); }) == 0 ? 0 : errno;
  ::close(fd);
  return error == EINVAL || error == ENOTSUP || error == EROFS ? 0 : error;
}

}  // namespace rwkv

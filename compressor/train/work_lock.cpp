#include "compressor/train/work_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <span>

#include "formats/base/system_calls.h"

namespace rwkv::press {
namespace {

std::string name_of_this_process() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::time_t seconds = std::time(nullptr);
  std::tm parts = {};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> since{};
  std::strftime(since.data(), since.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return fmt::format("process {} on {} since {}", ::getpid(), host.data(), since.data());
}

// What the process that has the lock wrote of itself.
std::string owner_in(int fd) {
  std::array<char, 512> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  return n > 0 ? std::string(text.data(), static_cast<size_t>(n)) : "a process that just began";
}

}  // namespace

Result<WorkLock> WorkLock::take(const std::string& folder) {
  const std::string path = folder + "/train.lock";
  // No link to a file elsewhere.
  const int fd = open_uninterrupted(path.c_str(),
                                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (fd < 0) {
    return failed("{}: cannot open: {}", path, std::strerror(errno));
  }
  WorkLock taken(fd);
  struct stat status = {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return failed("{}: expected a regular file; remove it", path);
  }
  if (try_lock(fd) == EWOULDBLOCK) {
    return usage_error(
        "{}: another training works in this folder: {}; wait for its end, or give this one "
        "another output",
        folder, owner_in(fd));
  }
  const std::string owner = name_of_this_process();
  const int error = ::ftruncate(fd, 0) != 0
                        ? errno
                        : write_all_at(fd, 0, std::as_bytes(std::span(owner.data(), owner.size())));
  if (error != 0) {
    return failed("{}: cannot write: {}", path, std::strerror(error));
  }
  return taken;
}

WorkLock::~WorkLock() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

}  // namespace rwkv::press

// A pipe to or from a process that is started.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "formats/base/status.h"

namespace rwkv::press {

struct Pipe {
  int read = -1;
  int write = -1;
};

/// Both ends are closed in programs that are executed. Failed if there are no descriptors left; the
/// caller closes the ends.
inline Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return failed("cannot create a pipe: {}", std::strerror(errno));
  }
  return Pipe{ends[0], ends[1]};
}

inline void close_both(const Pipe& pipe) {
  ::close(pipe.read);
  ::close(pipe.write);
}

}  // namespace rwkv::press

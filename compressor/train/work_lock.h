// One training works in a folder at a time: two would remove each other's snapshots and mix their
// logs.
#pragma once

#include <string>
#include <utility>

#include "formats/base/status.h"

namespace rwkv::press {

class WorkLock {
 public:
  /// Locks `folder`, which exists, by its file train.lock; the lock ends with this object or the
  /// process, however that ends. Usage, naming the other process, if one works there; Failed if the
  /// file cannot be opened or written. File systems without locks are used without one.
  static Result<WorkLock> take(const std::string& folder);
  ~WorkLock();
  WorkLock(WorkLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  WorkLock& operator=(WorkLock&& other) = delete;
  WorkLock(const WorkLock&) = delete;
  WorkLock& operator=(const WorkLock&) = delete;

 private:
  explicit WorkLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace rwkv::press

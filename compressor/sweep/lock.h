// Whose folder it is: a file that the processes of one sweep lock together, and that names them.
// The lock belongs to an open file, so it ends with a process that is killed.
#pragma once

#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

class SweepLock {
 public:
  /// What a process says of itself.
  struct Owner {
    std::string configuration;  ///< a hash of all that decides the points and their results
    std::string origin;         ///< the file of the configuration, for messages
    std::string shard;          ///< "2/8"
  };

  /// Locks `folder`, which exists, together with other processes of the same configuration. Usage,
  /// with the owner's name, if another configuration works there or left its points; with `changed`
  /// the latter is taken over. Usage also for a folder with other things where a sweep keeps its
  /// own: it will remove files there.
  static Result<SweepLock> take(const std::string& folder, const Owner& owner, bool changed);
  ~SweepLock();
  SweepLock(SweepLock&& other) noexcept;
  SweepLock& operator=(SweepLock&& other) = delete;
  SweepLock(const SweepLock&) = delete;
  SweepLock& operator=(const SweepLock&) = delete;

  /// Whether no other process works here any more and the folder is still this configuration's. At
  /// the end only: unless it is so, the lock is lost.
  bool is_last();

 private:
  SweepLock(std::string path, std::string configuration, int fd)
      : path_(std::move(path)), configuration_(std::move(configuration)), fd_(fd) {}
  std::string path_, configuration_;
  int fd_;
};

}  // namespace rwkv::press

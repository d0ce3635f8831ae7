// Temporary data of a conversion, only appended: in a file without a name, which disappears with
// the process, or in a kept one, from which a later process goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "formats/base/checksum.h"
#include "formats/base/status.h"

namespace rwkv::press {

class ScratchFile {
 public:
  /// In `folder`; empty: the current one.
  static Result<std::unique_ptr<ScratchFile>> unnamed(const std::string& folder);
  /// The file `path`, new or with its first `end` bytes, whose XXH64 must be `xxh64`: BadInput if
  /// they are not. What follows them is cut off. The file is locked against other processes; Usage
  /// if one works on it. It is no link, and stays when this object ends.
  static Result<std::unique_ptr<ScratchFile>> kept(const std::string& path, uint64_t end,
                                                   uint64_t xxh64);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  /// Bytes in it: where the next ones will begin.
  uint64_t end() const { return end_; }
  /// Of all bytes, of a kept file.
  uint64_t xxh64() const { return hash_.digest(); }
  Status append(std::span<const std::byte> bytes);
  Status read(uint64_t offset, std::span<std::byte> out) const;
  /// Brings what was appended to storage.
  Status sync();

 private:
  ScratchFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  Status check(uint64_t end, uint64_t xxh64);

  int fd_;
  std::string path_;  // empty: unnamed
  uint64_t end_ = 0;
  StreamingXxh64 hash_;
};

}  // namespace rwkv::press

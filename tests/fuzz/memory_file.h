// What targets do with the input's bytes: a file that lives in memory and has a name, for readers
// that take a path.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"

namespace rwkv::test {

class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes) : fd_(memfd_create("fuzz", 0)) {
    if (fd_ < 0 || ::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      std::abort();
    }
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

/// The same bytes with the right checksum in their last eight, as sealed files have it
/// (compressor/checkpoint/sealed_file.h), so that what it protects is reached too.
inline std::vector<std::byte> sealed(std::span<const std::byte> bytes) {
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  if (copy.size() >= sizeof(uint64_t)) {
    const auto rest = std::span(copy).first(copy.size() - sizeof(uint64_t));
    store_le<uint64_t>(copy.data() + rest.size(), xxh64(rest));
  }
  return copy;
}

}  // namespace rwkv::test

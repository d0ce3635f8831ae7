#include "runtime/storage/piece_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "formats/base/little_endian.h"
#include "formats/base/system_calls.h"

namespace rwkv::edge {
namespace {

// The system wakes late: what was slept too long is made up for, up to this much.
constexpr auto kBucket = std::chrono::milliseconds(20);
constexpr auto kLeastSleep = std::chrono::microseconds(100);

// Not every file system has direct reads: not tmpfs of older kernels, nor some of the network, of
// which some take the flag but no read, or want larger blocks.
bool takes_direct_reads(int fd) {
  alignas(PieceReader::kBlock) std::byte block[PieceReader::kBlock];
  return uninterrupted([&] { return ::pread(fd, block, sizeof(block), 0); }) >= 0;
}

}  // namespace

Result<std::unique_ptr<PieceReader>> PieceReader::open(const std::string& path, uint64_t least_size,
                                                       uint64_t bytes_per_second) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  int fd = open_uninterrupted(path.c_str(), kFlags | O_DIRECT);
  const bool is_direct = fd >= 0 && takes_direct_reads(fd);
  if (!is_direct) {
    if (fd >= 0) {
      ::close(fd);
    }
    fd = open_uninterrupted(path.c_str(), kFlags);
  }
  if (fd < 0) {
    return bad_input("{}: cannot open: {}; check its name and permissions", path,
                     std::strerror(errno));
  }
  std::unique_ptr<PieceReader> reader(new PieceReader(path, fd, is_direct, bytes_per_second));
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) ||
      static_cast<uint64_t>(info.st_size) < least_size) {
    return bad_input("{}: the file became shorter while it was opened", path);
  }
  return reader;
}

PieceReader::~PieceReader() {
  ::close(fd_);
}

uint64_t PieceReader::area_bytes(uint64_t offset, uint64_t n_bytes) {
  return align_up(place_in_area(offset) + n_bytes, kBlock);
}

Status PieceReader::read(uint64_t offset, uint64_t n_bytes, std::byte* area) {
  const auto start = Clock::now();
  const uint64_t before = place_in_area(offset);
  if (is_direct_) {
    // The last block may end after the end of the file.
    RWKV_TRY(fill(offset - before, area, area_bytes(offset, n_bytes), before + n_bytes));
  } else {
    RWKV_TRY(fill(offset, area + before, n_bytes, n_bytes));
    // Only advice: if it fails, the page cache stays as it is.
    static_cast<void>(::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(n_bytes),
                                      POSIX_FADV_DONTNEED));
  }
  keep_to_speed(start, n_bytes);
  return {};
}

// Reads `n_bytes`, of which `needed` must be there.
Status PieceReader::fill(uint64_t offset, std::byte* to, uint64_t n_bytes, uint64_t needed) {
  uint64_t done = 0;
  while (done < needed) {
    // A short direct read may end within a block, where no other can begin.
    const uint64_t from = is_direct_ ? done / kBlock * kBlock : done;
    const ssize_t n = uninterrupted(
        [&] { return ::pread(fd_, to + from, n_bytes - from, static_cast<off_t>(offset + from)); });
    if (n < 0) {
      return failed("{}: read failed at offset {}: {}", path_, offset + from, std::strerror(errno));
    }
    if (from + static_cast<uint64_t>(n) <= done) {
      return failed("{}: the file became shorter while it was read", path_);
    }
    done = from + static_cast<uint64_t>(n);
  }
  return {};
}

void PieceReader::keep_to_speed(Clock::time_point start, uint64_t n_bytes) {
  if (bytes_per_second_ == 0) {
    return;
  }
  const std::chrono::duration<double> takes(static_cast<double>(n_bytes) /
                                            static_cast<double>(bytes_per_second_));
  free_at_ =
      std::max(free_at_, start - kBucket) + std::chrono::duration_cast<Clock::duration>(takes);
  if (free_at_ - Clock::now() > kLeastSleep) {
    std::this_thread::sleep_until(free_at_);
  }
}

}  // namespace rwkv::edge

// Reads of a stream: past the page cache where the file system can, so that what is read once per
// token neither fills memory nor pushes other things out of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "formats/base/status.h"

namespace rwkv::edge {

class PieceReader {
 public:
  /// Offsets and memory of direct reads are multiples of this.
  static constexpr uint64_t kBlock = 4096;

  /// Opens `path`, which must have at least `least_size` bytes. `bytes_per_second` slows reads down
  /// to a storage of that speed, for measurements; 0: as fast as it is.
  static Result<std::unique_ptr<PieceReader>> open(const std::string& path, uint64_t least_size,
                                                   uint64_t bytes_per_second);
  ~PieceReader();
  PieceReader(const PieceReader&) = delete;
  PieceReader& operator=(const PieceReader&) = delete;

  /// Bytes of memory that a piece takes: whole blocks, with what surrounds it in the file.
  static uint64_t area_bytes(uint64_t offset, uint64_t n_bytes);
  /// Where in its area a piece begins.
  static uint64_t place_in_area(uint64_t offset) { return offset % kBlock; }

  /// Fills `area`, of area_bytes() from a whole block on, with the piece. From one thread at a
  /// time. Does not allocate unless it fails; Failed if the file became shorter or storage fails.
  Status read(uint64_t offset, uint64_t n_bytes, std::byte* area);
  /// Whether reads pass the page cache by.
  bool is_direct() const { return is_direct_; }

 private:
  using Clock = std::chrono::steady_clock;
  PieceReader(std::string path, int fd, bool is_direct, uint64_t bytes_per_second)
      : path_(std::move(path)),
        fd_(fd),
        is_direct_(is_direct),
        bytes_per_second_(bytes_per_second) {}
  Status fill(uint64_t offset, std::byte* to, uint64_t n_bytes, uint64_t needed);
  void keep_to_speed(Clock::time_point start, uint64_t n_bytes);

  std::string path_;
  int fd_;
  bool is_direct_;
  uint64_t bytes_per_second_;
  Clock::time_point free_at_{};  ///< when a storage of that speed would be done
};

}  // namespace rwkv::edge

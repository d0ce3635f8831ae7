// The stretches of a mapped file that contain the rows in use. No more of the file than these is
// resident, regardless of the page cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "formats/base/file.h"

namespace rwkv::edge {

class RowWindow {
 public:
  /// Bytes that a stretch spans at most, for rows that are not longer themselves.
  static constexpr uint64_t kSpan = uint64_t{8} << 20;

  /// At most `room` bytes of the file are resident, and at least a stretch and a large page at
  /// either end of it.
  RowWindow(std::shared_ptr<const MappedFile> mapping, uint64_t room)
      : mapping_(std::move(mapping)), room_(room) {}
  /// A good value of `room` if `n_bytes` of a file are used through a window.
  static uint64_t room_for(uint64_t n_bytes);

  /// The address of byte `begin` of the file. Bytes [begin, end) may be used until the next call or
  /// release(). Stretches are released together, when there is no room for another.
  const std::byte* move_to(uint64_t begin, uint64_t end);
  /// Ends the use of all bytes.
  void release() { in_use_ = {}; }
  /// Loads [begin, end) as the next move_to() would, next to the bytes in use, if there is room for
  /// both. From any thread, but only while no other thread calls this window.
  void prefetch(uint64_t begin, uint64_t end);

 private:
  struct Stretch {
    uint64_t first = 0;
    uint64_t last = 0;
    uint64_t size() const { return last - first; }
  };
  Stretch around(uint64_t begin, uint64_t end) const;
  uint64_t kept_to(const Stretch& stretch) const;
  void make_room(const Stretch& kept);
  void bring(const Stretch& stretch, uint64_t begin, uint64_t end);
  void give_back_between(uint64_t first, uint64_t last) const;

  std::shared_ptr<const MappedFile> mapping_;
  uint64_t room_;
  Stretch in_use_;
  Stretch before_;       ///< the last stretch loaded
  Stretch came_;         ///< contains everything loaded since the last release
  uint64_t n_came_ = 0;  ///< bytes loaded since then
};

}  // namespace rwkv::edge

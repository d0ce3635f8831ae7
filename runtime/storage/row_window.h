// The stretches of a mapped file that rows are being used from. Of the file no more than those is
// resident, whatever of it the system keeps in its cache.
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

  /// Of the file at most `room` bytes are resident, a stretch and a large page at either end of it
  /// at least.
  RowWindow(std::shared_ptr<const MappedFile> mapping, uint64_t room)
      : mapping_(std::move(mapping)), room_(room) {}
  /// A good room where `n_bytes` of a file are used through a window.
  static uint64_t room_for(uint64_t n_bytes);

  /// The address of byte `begin` of the file. Bytes [begin, end) may be used until the next call or
  /// release(). Stretches are given back to the system together, when there is no room for another.
  const std::byte* move_to(uint64_t begin, uint64_t end);
  /// Nothing is used any more.
  void release() { in_use_ = {}; }
  /// Brings [begin, end) as the next move_to() would, beside what is in use, if there is room for
  /// both. From any thread, but only while no other calls this window.
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
  Stretch before_;       ///< what came last
  Stretch came_;         ///< everything that came since the last giving back lies in it
  uint64_t n_came_ = 0;  ///< bytes of it that did
};

}  // namespace rwkv::edge

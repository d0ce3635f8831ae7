#include "runtime/memory/row_window.h"

#include <algorithm>

#include "formats/base/little_endian.h"
#include "runtime/memory/large_pages.h"

namespace rwkv::edge {
namespace {

// Giving back interrupts the other threads' processors, so it is done for several stretches at
// once: for a small part of what a token may use, but room for one more must be left.
constexpr uint64_t kLeastRoom = uint64_t{16} << 20;
constexpr uint64_t kShare = 12;

}  // namespace

uint64_t RowWindow::room_for(uint64_t n_bytes) {
  return std::max(kLeastRoom, n_bytes / kShare);
}

const std::byte* RowWindow::move_to(uint64_t begin, uint64_t end) {
  const std::span<const std::byte> file = mapping_->bytes();
  // The system may bring the whole large page around a byte that is used.
  const auto start = reinterpret_cast<uintptr_t>(file.data());
  const uint64_t first =
      std::max<uint64_t>(start, (start + begin) / kLargePage * kLargePage) - start;
  const uint64_t last =
      std::min<uint64_t>(start + file.size(), align_up(start + end, kLargePage)) - start;
  if (n_used_ + (last - first) > room_) {
    give_back(file.subspan(first_, last_ - first_));
    n_used_ = 0;
  }
  first_ = n_used_ == 0 ? first : std::min(first_, first);
  last_ = n_used_ == 0 ? last : std::max(last_, last);
  n_used_ += last - first;
  // Now, where one thread waits for it, not several for each other.
  for (uint64_t at = begin; at < end; at = align_up(start + at + 1, kLargePage) - start) {
    static_cast<void>(*reinterpret_cast<const volatile std::byte*>(file.data() + at));
  }
  return file.data() + begin;
}

}  // namespace rwkv::edge

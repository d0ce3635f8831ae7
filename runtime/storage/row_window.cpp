#include "runtime/storage/row_window.h"

#include <algorithm>

#include "formats/base/little_endian.h"
#include "runtime/storage/large_pages.h"

namespace rwkv::edge {
namespace {

// Releasing interrupts the processors of the other threads, so it is done for several stretches at
// once: a small part of the bytes that a token may use, with room for one more stretch.
constexpr uint64_t kLeastRoom = uint64_t{24} << 20;
constexpr uint64_t kShare = 14;

}  // namespace

uint64_t RowWindow::room_for(uint64_t n_bytes) {
  return std::max(kLeastRoom, n_bytes / kShare);
}

// Touching one byte may make the whole 2 MB page resident.
RowWindow::Stretch RowWindow::around(uint64_t begin, uint64_t end) const {
  const std::span<const std::byte> file = mapping_->bytes();
  const auto start = reinterpret_cast<uintptr_t>(file.data());
  return {std::max<uint64_t>(start, (start + begin) / kLargePage * kLargePage) - start,
          std::min<uint64_t>(start + file.size(), align_up(start + end, kLargePage)) - start};
}

// The end of the resident part of a stretch, with the one before.
uint64_t RowWindow::kept_to(const Stretch& stretch) const {
  const bool goes_on = before_.first <= stretch.first && stretch.first < before_.last;
  return goes_on ? std::min(stretch.last, before_.last) : stretch.first;
}

void RowWindow::give_back_between(uint64_t first, uint64_t last) const {
  if (first < last) {
    give_back(mapping_->bytes().subspan(first, last - first));
  }
}

// Releases everything except `kept`.
void RowWindow::make_room(const Stretch& kept) {
  give_back_between(came_.first, std::min(kept.first, came_.last));
  give_back_between(std::max(kept.last, came_.first), came_.last);
  came_ = before_ = kept;
  n_came_ = kept.size();
}

void RowWindow::bring(const Stretch& stretch, uint64_t begin, uint64_t end) {
  const uint64_t n_more = stretch.last - kept_to(stretch);
  came_ = n_came_ == 0
              ? stretch
              : Stretch{std::min(came_.first, stretch.first), std::max(came_.last, stretch.last)};
  n_came_ += n_more;
  before_ = stretch;
  // Now, while one thread waits for it, and not several for each other.
  const std::byte* const file = mapping_->bytes().data();
  const auto start = reinterpret_cast<uintptr_t>(file);
  for (uint64_t at = begin; at < end; at = align_up(start + at + 1, kLargePage) - start) {
    static_cast<void>(*reinterpret_cast<const volatile std::byte*>(file + at));
  }
}

const std::byte* RowWindow::move_to(uint64_t begin, uint64_t end) {
  const Stretch stretch = around(begin, end);
  const uint64_t kept = kept_to(stretch);
  if (n_came_ + stretch.last - kept > room_) {
    make_room({stretch.first, kept});
  }
  bring(stretch, begin, end);
  in_use_ = stretch;
  return mapping_->bytes().data() + begin;
}

void RowWindow::prefetch(uint64_t begin, uint64_t end) {
  const Stretch stretch = around(begin, end);
  if (in_use_.size() + stretch.size() > room_) {
    return;
  }
  if (n_came_ + stretch.last - kept_to(stretch) > room_) {
    make_room(in_use_);
  }
  bring(stretch, begin, end);
}

}  // namespace rwkv::edge

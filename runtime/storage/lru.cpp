#include "runtime/storage/lru.h"

#include <algorithm>

namespace rwkv::edge {
namespace {

// A table of all units is worth its memory unless the cache is small, or small compared with them:
// then searching the slots is enough.
bool has_table(uint64_t n_units, uint64_t capacity) {
  constexpr uint64_t kFew = 128;
  constexpr uint64_t kSome = 1024;
  constexpr uint64_t kMuchSmaller = 16;
  return capacity > kSome || (capacity > kFew && n_units < kMuchSmaller * capacity);
}

}  // namespace

Lru::Lru(uint64_t n_units, uint64_t capacity)
    : units_(std::min<uint64_t>(capacity, kMaxCapacity), kNone),
      newer_(units_.size() + 1),
      older_(units_.size() + 1),
      slot_of_(has_table(n_units, units_.size()) ? n_units : 0, kEmpty) {
  clear();
}

uint64_t Lru::bytes(uint64_t n_units, uint64_t capacity) {
  capacity = std::min<uint64_t>(capacity, kMaxCapacity);
  return capacity * sizeof(uint32_t) + 2 * (capacity + 1) * sizeof(uint16_t) +
         (has_table(n_units, capacity) ? n_units * sizeof(uint16_t) : 0);
}

// The head of the ring is the entry after the last slot: its `older` is the most recently used
// slot, its `newer` the least recently used one.
void Lru::clear() {
  std::fill(units_.begin(), units_.end(), kNone);
  std::fill(slot_of_.begin(), slot_of_.end(), kEmpty);
  const size_t n = newer_.size();
  for (size_t i = 0; i < n; ++i) {
    older_[i] = static_cast<uint16_t>((i + 1) % n);
    newer_[i] = static_cast<uint16_t>((i + n - 1) % n);
  }
}

uint32_t Lru::find(uint64_t unit) const {
  if (!slot_of_.empty()) {
    const uint16_t slot = slot_of_[unit];
    return slot == kEmpty ? kNone : slot;
  }
  const auto found = std::find(units_.begin(), units_.end(), static_cast<uint32_t>(unit));
  return found == units_.end() ? kNone : static_cast<uint32_t>(found - units_.begin());
}

void Lru::unlink(uint32_t slot) {
  older_[newer_[slot]] = older_[slot];
  newer_[older_[slot]] = newer_[slot];
}

void Lru::link_first(uint32_t slot) {
  const auto head = static_cast<uint16_t>(units_.size());
  older_[slot] = older_[head];
  newer_[slot] = head;
  newer_[older_[head]] = static_cast<uint16_t>(slot);
  older_[head] = static_cast<uint16_t>(slot);
}

void Lru::touch(uint32_t slot) {
  unlink(slot);
  link_first(slot);
}

uint32_t Lru::replace(uint64_t unit) {
  const uint32_t slot = newer_[units_.size()];
  if (!slot_of_.empty()) {
    if (units_[slot] != kNone) {
      slot_of_[units_[slot]] = kEmpty;
    }
    slot_of_[unit] = static_cast<uint16_t>(slot);
  }
  units_[slot] = static_cast<uint32_t>(unit);
  touch(slot);
  return slot;
}

}  // namespace rwkv::edge

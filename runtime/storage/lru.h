// Which units are in which slots of a cache; the least recently used one leaves first. Nothing is
// allocated after construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rwkv::edge {

class Lru {
 public:
  static constexpr uint32_t kMaxCapacity = 65534;
  static constexpr uint32_t kNone = UINT32_MAX;

  Lru() = default;
  /// Slots 0 to capacity - 1 (at most kMaxCapacity) for units 0 to n_units - 1.
  Lru(uint64_t n_units, uint64_t capacity);

  uint32_t capacity() const { return static_cast<uint32_t>(units_.size()); }
  /// The slot of `unit`, kNone if it is not in the cache.
  uint32_t find(uint64_t unit) const;
  /// Marks a slot as used now.
  void touch(uint32_t slot);
  /// Gives `unit` the least recently used slot, and marks that as used now.
  uint32_t replace(uint64_t unit);
  /// Forgets everything.
  void clear();

  static uint64_t bytes(uint64_t n_units, uint64_t capacity);

 private:
  static constexpr uint16_t kEmpty = UINT16_MAX;
  void unlink(uint32_t slot);
  void link_first(uint32_t slot);

  std::vector<uint32_t> units_;          ///< of each slot
  std::vector<uint16_t> newer_, older_;  ///< neighbours of each slot, in a ring with the head
  std::vector<uint16_t> slot_of_;        ///< of each unit; empty for small caches, which search
};

}  // namespace rwkv::edge

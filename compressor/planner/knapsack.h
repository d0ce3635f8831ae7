// The choice itself: one option of each component, least loss within a number of bytes (the
// multiple-choice knapsack problem).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace rwkv::press {

/// One setting of a component.
struct KnapsackOption {
  uint64_t bytes = 0;
  double loss = 0;  ///< any finite number; what is added up
};

/// An option of each component whose bytes together are at most `budget` and whose losses together
/// are least; ties go to fewer bytes. Nothing if no choice fits. Dynamic programming over bytes
/// above the least in units of spread / `max_units`, rounded up: exact where the unit is 1 (a
/// spread of at most `max_units` bytes), else a choice never exceeds the budget and leaves less
/// than a unit per component of it unused. Takes components x max_units bytes of memory and
/// components x options x max_units steps. No component may have more than 255 options.
std::optional<std::vector<size_t>> choose_options(
    const std::vector<std::vector<KnapsackOption>>& components, uint64_t budget,
    size_t max_units = size_t{1} << 16);

/// The bytes of the smallest choice.
uint64_t least_bytes(const std::vector<std::vector<KnapsackOption>>& components);

}  // namespace rwkv::press

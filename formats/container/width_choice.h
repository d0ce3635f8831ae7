// Which width each piece of the matrices gets within a number of bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rwkv {

/// A piece at one width.
struct WidthOption {
  uint64_t bytes = 0;
  double loss = 0;  ///< finite; what is added up
};
/// Of one piece, in any order; at least one.
using WidthOptions = std::span<const WidthOption>;

/// The index of an option for each piece. Begins with the fewest bytes of each, which is the result
/// if even they exceed the budget, and takes the upgrades along each piece's lower convex hull of
/// (bytes, loss), the largest decrease of loss per byte first, passing over those that do not fit.
/// The sum of losses exceeds the least possible one by less than the largest single upgrade.
std::vector<uint32_t> choose_widths(std::span<const WidthOptions> pieces, uint64_t budget_bytes);

}  // namespace rwkv

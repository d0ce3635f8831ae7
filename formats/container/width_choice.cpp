#include "formats/container/width_choice.h"

#include <algorithm>

namespace rwkv {
namespace {

// One option of a piece instead of another.
struct Upgrade {
  double worth;  // decrease of loss per byte
  size_t piece;
  uint32_t from;
  uint32_t to;
  uint64_t bytes;
};

// The option of the fewest bytes, then of the least loss.
uint32_t cheapest(WidthOptions options) {
  const auto found = std::min_element(
      options.begin(), options.end(), [](const WidthOption& a, const WidthOption& b) {
        return a.bytes != b.bytes ? a.bytes < b.bytes : a.loss < b.loss;
      });
  return static_cast<uint32_t>(found - options.begin());
}

// The next corner of the lower convex hull after `from`: what brings most per byte, and of equals
// the nearest. False if nothing brings anything.
bool next_corner(WidthOptions options, uint32_t from, Upgrade& best) {
  best.worth = 0;
  for (uint32_t i = 0; i < options.size(); ++i) {
    if (options[i].bytes <= options[from].bytes || options[i].loss >= options[from].loss) {
      continue;
    }
    const uint64_t bytes = options[i].bytes - options[from].bytes;
    const double worth = (options[from].loss - options[i].loss) / static_cast<double>(bytes);
    if (worth > best.worth || (worth == best.worth && bytes < best.bytes)) {
      best = {worth, best.piece, from, i, bytes};
    }
  }
  return best.worth > 0;
}

}  // namespace

std::vector<uint32_t> choose_widths(std::span<const WidthOptions> pieces, uint64_t budget_bytes) {
  std::vector<uint32_t> chosen;
  std::vector<Upgrade> upgrades;
  uint64_t bytes = 0;
  for (size_t piece = 0; piece < pieces.size(); ++piece) {
    chosen.push_back(cheapest(pieces[piece]));
    bytes += pieces[piece][chosen.back()].bytes;
    Upgrade upgrade{0, piece, 0, 0, 0};
    for (uint32_t at = chosen.back(); next_corner(pieces[piece], at, upgrade); at = upgrade.to) {
      upgrades.push_back(upgrade);
    }
  }
  std::stable_sort(upgrades.begin(), upgrades.end(),
                   [](const Upgrade& a, const Upgrade& b) { return a.worth > b.worth; });
  for (const Upgrade& upgrade : upgrades) {
    // A corner is not reached if one before it did not fit.
    if (chosen[upgrade.piece] == upgrade.from && bytes <= budget_bytes &&
        upgrade.bytes <= budget_bytes - bytes) {
      chosen[upgrade.piece] = upgrade.to;
      bytes += upgrade.bytes;
    }
  }
  return chosen;
}

}  // namespace rwkv

#include "compressor/sweep/units.h"

#include <algorithm>
#include <map>
#include <string>

namespace rwkv::press {
namespace {

// What the first `depth` stages of a point depend on, up to its last stage that trains.
std::string beginning(const SweepPoint& point, size_t depth) {
  std::string text = point.learns_from;
  const size_t most = point.trained ? *point.trained + 1 : point.stages.size();
  for (size_t i = 0; i < std::min({depth, most, point.stages.size()}); ++i) {
    text += "\n" + point.stages[i];
  }
  return text;
}

}  // namespace

std::vector<std::vector<size_t>> deal_out(const std::vector<SweepPoint>& points,
                                          const std::vector<size_t>& pending, size_t wanted) {
  size_t deepest = 0;
  for (const size_t i : pending) {
    deepest = std::max(deepest, points[i].stages.size());
  }
  std::vector<std::vector<size_t>> units;
  for (size_t depth = 0; depth <= deepest; ++depth) {
    units.clear();
    std::map<std::string, size_t> unit_of;
    for (const size_t i : pending) {
      const auto [found, is_new] = unit_of.try_emplace(beginning(points[i], depth), units.size());
      if (is_new) {
        units.emplace_back();
      }
      units[found->second].push_back(i);
    }
    if (units.size() >= wanted) {
      break;
    }
  }
  return units;
}

}  // namespace rwkv::press

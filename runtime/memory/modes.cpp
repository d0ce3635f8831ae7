#include "runtime/memory/modes.h"

#include <vector>

#include "formats/base/nearest.h"

namespace rwkv::edge {
namespace {

constexpr ModeTraits kModes[] = {
    {MemoryMode::Full, "full", DenseWeights::Mapped, DemandedRows::Mapped, true, 1},
    {MemoryMode::Loaded, "loaded", DenseWeights::Pinned, DemandedRows::Pinned, false, 4},
    {MemoryMode::Sparse, "sparse", DenseWeights::Pinned, DemandedRows::Cached, true, 2},
    {MemoryMode::Windowed, "windowed", DenseWeights::Pinned, DemandedRows::Windowed, true, 5},
    {MemoryMode::Streamed, "streamed", DenseWeights::Ahead, DemandedRows::Cached, true, 6},
    {MemoryMode::Layerwise, "layerwise", DenseWeights::Streamed, DemandedRows::PassThrough, true,
     3},
};

// mode_traits() takes a mode for its place in the table.
static_assert([] {
  size_t i = 0;
  for (const ModeTraits& traits : kModes) {
    if (static_cast<size_t>(traits.mode) != i++) {
      return false;
    }
  }
  return true;
}());

}  // namespace

bool ModeTraits::maps_file() const {
  return dense == DenseWeights::Mapped || rows == DemandedRows::Mapped ||
         rows == DemandedRows::Windowed;
}

bool ModeTraits::has_caches() const {
  return rows == DemandedRows::Cached || rows == DemandedRows::PassThrough;
}

bool ModeTraits::is_changing() const {
  return dense == DenseWeights::Streamed || dense == DenseWeights::Ahead || has_caches() ||
         rows == DemandedRows::Windowed;
}

std::span<const ModeTraits> mode_list() {
  return kModes;
}

const ModeTraits& mode_traits(MemoryMode mode) {
  return kModes[static_cast<size_t>(mode)];
}

Result<MemoryMode> memory_mode_named(const std::string& name, const std::string& option) {
  std::vector<std::string_view> names;
  for (const ModeTraits& traits : kModes) {
    if (name == traits.name) {
      return traits.mode;
    }
    names.emplace_back(traits.name);
  }
  return usage_error("{} is '{}'{}", option, name, suggestion(name, names));
}

std::string memory_mode_names() {
  std::string names;
  for (const ModeTraits& traits : kModes) {
    names += fmt::format("{}{}", names.empty() ? "" : "|", traits.name);
  }
  return names;
}

}  // namespace rwkv::edge

#include "formats/base/byte_size.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

namespace rwkv {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};
constexpr std::array<Unit, 8> kUnits = {{{"", 1},
                                         {"B", 1},
                                         {"kB", 1e3},
                                         {"MB", 1e6},
                                         {"GB", 1e9},
                                         {"KiB", 1024},
                                         {"MiB", 1024.0 * 1024},
                                         {"GiB", 1024.0 * 1024 * 1024}}};

}  // namespace

Result<uint64_t> parse_bytes(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  for (const Unit& known : kUnits) {
    if (error == std::errc() && unit == known.name && value > 0 && value * known.bytes < 1e18) {
      return static_cast<uint64_t>(std::llround(value * known.bytes));
    }
  }
  return usage_error("expected a size such as 64MB, 1.5GB or 67108864, found '{}'", text);
}

}  // namespace rwkv

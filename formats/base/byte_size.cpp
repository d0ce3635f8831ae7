#include "formats/base/byte_size.h"

#include <algorithm>
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
// In lower case; a sign may have any case. "M" is "MB": the smaller of its two meanings.
constexpr std::array<Unit, 14> kUnits = {{{"", 1},
                                          {"b", 1},
                                          {"k", 1e3},
                                          {"kb", 1e3},
                                          {"m", 1e6},
                                          {"mb", 1e6},
                                          {"g", 1e9},
                                          {"gb", 1e9},
                                          {"ki", 1024},
                                          {"kib", 1024},
                                          {"mi", 1024.0 * 1024},
                                          {"mib", 1024.0 * 1024},
                                          {"gi", 1024.0 * 1024 * 1024},
                                          {"gib", 1024.0 * 1024 * 1024}}};

// "MiB" of " MiB", in lower case.
std::string unit_of(std::string_view text) {
  std::string unit(text.substr(std::min(text.size(), text.find_first_not_of(' '))));
  for (char& c : unit) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return unit;
}

}  // namespace

Result<uint64_t> parse_bytes(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit =
      unit_of(std::string_view(end, static_cast<size_t>(text.data() + text.size() - end)));
  for (const Unit& known : kUnits) {
    if (error == std::errc() && unit == known.name && value > 0 && value * known.bytes < 1e18) {
      return static_cast<uint64_t>(std::llround(value * known.bytes));
    }
  }
  return usage_error("expected a size such as 64MB, 512M, 1.5GB, 64MiB or 67108864, found '{}'",
                     text);
}

}  // namespace rwkv

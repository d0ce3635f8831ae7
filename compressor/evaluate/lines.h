// Files with one JSON object per line, plain or gzipped; other lines are skipped and recorded.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

/// How many items were skipped, and the reasons for the first few.
struct Skipped {
  uint64_t count = 0;
  std::vector<std::string> complaints;

  void add(std::string complaint);
};

/// Calls `use(number, line)` for every line that is not blank, `number` from 1. What it refuses is
/// added to `malformed` as "FILE: line N: why", as is a line longer than 1 MiB, and the rest goes
/// on. Lines end in LF or CR LF. One line is held at a time. BadInput if the file is missing, is
/// empty but for blanks, is gzip that ends too early or is damaged, or has more than 1 GiB
/// (inflated) or 2^20 lines.
Status read_lines(const std::string& path,
                  const std::function<Status(uint64_t number, std::string_view line)>& use,
                  Skipped& malformed);

/// The object that a line is; BadInput if it is none.
Result<nlohmann::json> parse_object(std::string_view line);
/// The string under `key`; BadInput if it is missing or of another type.
Result<std::string> string_at(const nlohmann::json& object, const char* key);
/// The integer >= 0 under `key`; BadInput likewise.
Result<uint64_t> number_at(const nlohmann::json& object, const char* key);

}  // namespace rwkv::press

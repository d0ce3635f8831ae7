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

using UseLine = std::function<Status(uint64_t number, std::string_view line)>;

/// Calls `use(number, line)` for every line that is not blank, `number` from 1. What it refuses as
/// BadInput is added to `malformed` as "FILE: line N: why", as is a line longer than 1 MiB, and the
/// rest goes on; any other failure ends the reading and is returned. Lines end in LF or CR LF. One
/// line is held at a time. BadInput if the file is missing, is empty but for blanks, is gzip that
/// ends too early or is damaged, has more than 1 GiB or 2^20 lines, or inflates to more than 64 MiB
/// and 256 times its own size.
Status read_lines(const std::string& path, const UseLine& use, Skipped& malformed);

/// The same file once more, for what was drawn of it: only lines `wanted` (ascending), all of which
/// `use` has to accept. BadInput if one is missing by now.
Status read_again(const std::string& path, const std::vector<uint64_t>& wanted, const UseLine& use);

/// Counts the memory that documents of a file take.
class KeptBytes {
 public:
  /// At most 64 MiB and 32 times the size of the file at `path`.
  static Result<KeptBytes> of_file(const std::string& path);
  /// Usage if it is too much, which ends read_lines(); the message says what to do.
  Status add(size_t n_bytes);

 private:
  KeptBytes(std::string path, uint64_t most) : path_(std::move(path)), most_(most) {}
  std::string path_;
  uint64_t most_;
  uint64_t kept_ = 0;
};

/// The object that a line is; BadInput if it is none.
Result<nlohmann::json> parse_object(std::string_view line);
/// The string under `key`; BadInput if it is missing or of another type.
Result<std::string> string_at(const nlohmann::json& object, const char* key);
/// The integer >= 0 under `key`; BadInput likewise.
Result<uint64_t> number_at(const nlohmann::json& object, const char* key);

}  // namespace rwkv::press

// --json-log: what a run does, as JSON, one object per line, for programs that watch it
// (docs/long_runs.md).
#pragma once

#include <cxxopts.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

class RunLog {
 public:
  /// Declares --json-log.
  static void declare(cxxopts::Options& options);
  /// The file that it names, emptied; with `appends`, what is in it stays. A log of nothing without
  /// the option. Usage for a file that is no such log; pipes and devices are taken.
  static Result<std::unique_ptr<RunLog>> from(const cxxopts::ParseResult& arguments, bool appends);
  /// A log of nothing.
  static Result<std::unique_ptr<RunLog>> none() { return std::unique_ptr<RunLog>(new RunLog()); }
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  bool is_on() const { return fd_ >= 0; }
  /// Writes a line {"event": event, "time": seconds since 1970, ...fields}. A log that cannot be
  /// written ends with one warning on stderr; the run goes on.
  void write(const char* event, const nlohmann::ordered_json& fields);

 private:
  RunLog() = default;
  std::string path_;
  int fd_ = -1;
};

}  // namespace rwkv::press

// Runs the real executables, as a shell would, and says how they ended.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/support.h"

namespace rwkv::test {

/// How a process ended.
struct Run {
  std::string command;  ///< for messages
  int exit_code = -1;   ///< -1 if a signal ended it
  int signal = 0;       ///< 0 if it exited
  bool timed_out = false;
  std::string out;
  std::string err;
  uint64_t peak_bytes = 0;  ///< ru_maxrss
};

/// A file system in memory over `folder`, in a mount namespace of the process alone.
struct TinyDisk {
  std::string folder;
  uint64_t bytes;
};

struct RunOptions {
  std::vector<std::string> environment;    ///< "NAME=value", added to this process's
  std::optional<uint64_t> max_file_bytes;  ///< RLIMIT_FSIZE: writing more is like a full disk
  std::optional<TinyDisk> tiny_disk;       ///< needs root; see can_mount()
  std::function<bool(pid_t)> meanwhile;    ///< called every few milliseconds until it says true
  double time_limit_s = 60.0;              ///< killed then
};

/// `words[0]` is a path. Throws std::runtime_error if no process could be made.
Run run(const std::vector<std::string>& words, const RunOptions& options = {});
/// rwkv-edge and rwkv-press of this build.
Run edge(std::vector<std::string> arguments, const RunOptions& options = {});
Run press(std::vector<std::string> arguments, const RunOptions& options = {});
std::string program_path(std::string_view name);

/// Whether TinyDisk works here; prints "SKIPPED <what>: ..." if not.
bool can_mount(std::string_view what);

/// Exit code 0, nothing that looks like an error; returns the same run.
const Run& check_fine(const Run& run);
/// Exactly one line on stderr beginning with "PROGRAM: error: ", the last one, with every one of
/// `words` in it; the exit code; no signal.
void check_refused(const Run& run, int exit_code, const std::vector<std::string>& words = {});

/// Strict UTF-8: no overlong forms, no surrogates.
bool is_utf8(std::string_view text);

}  // namespace rwkv::test

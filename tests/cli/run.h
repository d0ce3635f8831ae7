// Runs the real executables and keeps what they say.
#pragma once

#include <string>
#include <vector>

namespace rwkv::test {

struct RunResult {
  int exit_code = -1;  ///< -1 if a signal ended it
  int signal = 0;
  std::string out;
  std::string err;
};

/// The path of one of our executables.
std::string executable(const std::string& name);

/// `program` is rwkv-press, rwkv-edge or a path. `file_limit`: bytes a file may have
/// (RLIMIT_FSIZE), 0 none.
RunResult run(const std::string& program, const std::vector<std::string>& arguments,
              unsigned long file_limit = 0);

}  // namespace rwkv::test

// Our executables in the background: to be disturbed.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/cli/run.h"
#include "tests/support/support.h"

namespace rwkv::test {

using Environment = std::map<std::string, std::string>;

inline constexpr std::chrono::seconds kPatience(60);

/// rwkv-press in the background. It ends with the object in any case.
class Process {
 public:
  Process(const ScratchFolder& scratch, const std::string& name,
          const std::vector<std::string>& arguments, const Environment& environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const;
  /// Waits for the end; exit code -1 and the signal if one ended it, signal -1 if nothing did.
  RunResult wait();
  /// What it said so far.
  std::string text() const;

 private:
  std::string err_;
  pid_t pid_ = 0;
};

/// False if it did not come true in time.
bool wait_until(const std::function<bool()>& is_so);

}  // namespace rwkv::test

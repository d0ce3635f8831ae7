// A process that runs our own executable: we give it a text, read its output and wait for it. It
// ends when we end, in whatever way.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

class Child {
 public:
  /// Starts this executable with `arguments` and writes `input` to its stdin. `environment` has
  /// NAME=VALUE entries that are added to ours.
  static Result<Child> start(const std::vector<std::string>& arguments,
                             const std::vector<std::string>& environment, const std::string& input);
  /// Kills the process if it still runs.
  ~Child();
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) = delete;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int out() const { return out_; }
  int err() const { return err_; }
  /// Reads the available output: lines of stdout go to `line`; the end of stderr is kept. False
  /// when both are closed.
  bool read(const std::function<void(const std::string&)>& line);
  /// Waits for the end, after read() returned false. Failed says how the process ended, with the
  /// end of its stderr.
  Status wait();

 private:
  Child() = default;
  bool drain(int& fd, std::string& text);
  pid_t pid_ = 0;
  int out_ = -1;
  int err_ = -1;
  std::string partial_;     ///< stdout after the last complete line
  std::string last_words_;  ///< the end of stderr
};

}  // namespace rwkv::press

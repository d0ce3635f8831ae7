// A process of our own executable: given a text, read from, waited for. It ends with us, however we
// end.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

class Child {
 public:
  /// Starts this executable with `arguments` and writes `input` to its stdin; `environment` are
  /// NAME=VALUE beside ours.
  static Result<Child> start(const std::vector<std::string>& arguments,
                             const std::vector<std::string>& environment, const std::string& input);
  /// Kills it if it is still there.
  ~Child();
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) = delete;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int out() const { return out_; }
  int err() const { return err_; }
  /// Reads what is there: lines of stdout go to `line`, of stderr the end is kept. False when both
  /// are closed.
  bool read(const std::function<void(const std::string&)>& line);
  /// Waits for the end, after read() said false. Failed says how it ended, with its last words.
  Status wait();

 private:
  Child() = default;
  bool drain(int& fd, std::string& text);
  pid_t pid_ = 0;
  int out_ = -1;
  int err_ = -1;
  std::string partial_;     ///< of stdout, behind its last line
  std::string last_words_;  ///< of stderr
};

}  // namespace rwkv::press

// Progress on stderr: a bar on a terminal, a line every few seconds otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace rwkv::cli {

class Progress {
 public:
  /// `total` has the unit of update(); `quiet` prints nothing.
  Progress(std::string label, uint64_t total, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(uint64_t done);

 private:
  void print(uint64_t done, bool last);
  std::string label_;
  uint64_t total_;
  bool quiet_;
  bool is_terminal_;
  bool printed_ = false;
  uint64_t printed_done_ = 0;
  uint64_t done_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_print_;
};

/// A bar for one piece of work after another, as progress callbacks name them.
class Bars {
 public:
  explicit Bars(bool quiet) : quiet_(quiet) {}
  /// `share` from 0 to 1 of `what`; another name starts another bar.
  void update(const std::string& what, double share);
  /// Ends the bar, so that other lines can be printed.
  void end() { bar_.reset(); }

 private:
  bool quiet_;
  std::string current_;
  std::unique_ptr<Progress> bar_;
};

}  // namespace rwkv::cli

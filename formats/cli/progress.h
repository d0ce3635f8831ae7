// Progress on stderr: a bar on a terminal, a line every few seconds otherwise.
#pragma once

#include <chrono>
#include <cstdint>
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
  uint64_t done_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_print_;
};

}  // namespace rwkv::cli

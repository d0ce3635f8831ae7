// Who works on what: a file that only one process can make, on one machine or on many that share a
// folder. It says which process that is, so that what a dead one left is seen.
#pragma once

#include <optional>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

class Claim {
 public:
  /// Nothing if a living process has the file at `path`. One that died on this machine has it no
  /// longer; of other machines nothing is known, and their claims hold unless `break_remote`.
  static Result<std::optional<Claim>> take(const std::string& path, bool break_remote);
  ~Claim();
  Claim(Claim&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  Claim& operator=(Claim&& other) noexcept;
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

 private:
  explicit Claim(std::string path) : path_(std::move(path)) {}
  void release();
  std::string path_;
};

}  // namespace rwkv::press

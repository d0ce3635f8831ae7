// Who works on what: a file that only one process can create, on one machine or on several that
// share a folder. It names the process, so that claims of dead processes are recognised.
#pragma once

#include <optional>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

class Claim {
 public:
  /// Nothing if a living process holds the file at `path`. The claim of a process that died on this
  /// machine is void. Claims from other machines hold unless `break_remote`, since we cannot tell
  /// whether their processes live.
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

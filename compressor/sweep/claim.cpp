#include "compressor/sweep/claim.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "compressor/sweep/files.h"
#include "compressor/sweep/process.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kMaxClaimBytes = 4096;

std::string own_text() {
  const auto pid = static_cast<int64_t>(::getpid());
  return fmt::format("{}\n{}\n{}\n", this_host(), pid, start_of(pid));
}

// Whether the process that wrote `text` may still be running.
bool may_live(const std::string& text, bool break_remote) {
  std::istringstream lines(text);
  std::string host, number, start;
  std::getline(lines, host);
  std::getline(lines, number);
  std::getline(lines, start);
  int64_t pid = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), pid);
  if (host != this_host() || error != std::errc()) {
    return !break_remote;
  }
  return start_of(pid) == start && !start.empty();
}

// Creates a complete file at `path` unless one exists: link() is atomic, also on network file
// systems.
Result<bool> put(const std::string& path, const std::string& text) {
  const std::string own = fmt::format("{}.{}-{}", path, std::hash<std::string>()(this_host()),
                                      static_cast<int64_t>(::getpid()));
  remove_file(own);
  std::ofstream file(own);
  file << text;
  file.close();
  if (!file) {
    return failed("{}: cannot write: {}", own, std::strerror(errno));
  }
  const bool is_ours = ::link(own.c_str(), path.c_str()) == 0;
  const int error = errno;
  remove_file(own);
  if (!is_ours && error != EEXIST) {
    return failed("{}: cannot link: {}", path, std::strerror(error));
  }
  return is_ours;
}

// Removes a claim with the content `text`. Another process may do the same, so the moved file is
// checked again, and put back if it is another claim.
void take_away(const std::string& path, const std::string& text) {
  const std::string aside =
      fmt::format("{}.stale-{}-{}", path, std::hash<std::string>()(this_host()),
                  static_cast<int64_t>(::getpid()));
  if (std::rename(path.c_str(), aside.c_str()) != 0) {
    return;
  }
  auto moved = read_text_file(aside, kMaxClaimBytes);
  if (moved.ok() && moved.value() != text && ::link(aside.c_str(), path.c_str()) != 0) {
    // A third process was faster. Two may now do the same work, with the same results.
  }
  remove_file(aside);
}

}  // namespace

Result<std::optional<Claim>> Claim::take(const std::string& path, bool break_remote) {
  using Taken = std::optional<Claim>;
  const std::string text = own_text();
  constexpr int kTries = 3;
  for (int i = 0; i < kTries; ++i) {
    RWKV_ASSIGN(const bool is_ours, put(path, text));
    if (is_ours) {
      return Taken(Claim(path));
    }
    auto theirs = read_text_file(path, kMaxClaimBytes);
    if (theirs.ok() && may_live(theirs.value(), break_remote)) {
      return Taken();
    }
    if (theirs.ok()) {
      take_away(path, theirs.value());
    }
  }
  return Taken();
}

void Claim::release() {
  if (!path_.empty()) {
    remove_file(path_);
    path_.clear();
  }
}

Claim& Claim::operator=(Claim&& other) noexcept {
  release();
  path_ = std::move(other.path_);
  other.path_.clear();
  return *this;
}

Claim::~Claim() {
  release();
}

}  // namespace rwkv::press

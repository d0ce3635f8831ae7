#include "compressor/sweep/claim.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "compressor/sweep/files.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kMaxClaimBytes = 4096;

// Process ids are unique within a machine, and containers have their own.
std::string this_host() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) {
    name[0] = '?';
  }
  std::array<char, 64> numbering{};
  if (::readlink("/proc/self/ns/pid", numbering.data(), numbering.size() - 1) < 0) {
    numbering[0] = '?';
  }
  return fmt::format("{}/{}", name.data(), numbering.data());
}

// When the process started, in ticks, because process ids are reused. Empty if there is no such
// process, or if it has ended and is a zombie.
std::string start_of(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  // The second field is a name in brackets that may hold anything; the start is the 22nd.
  const size_t behind_name = text.rfind(')');
  if (behind_name == std::string::npos) {
    return {};
  }
  std::istringstream fields(text.substr(behind_name + 1));
  constexpr int kFieldsBetween = 18;
  std::string field;
  fields >> field;  // the third: its state
  if (field == "Z" || field == "X") {
    return {};
  }
  for (int i = 0; i <= kFieldsBetween; ++i) {
    fields >> field;
  }
  return field;
}

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

#include "formats/base/leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "formats/base/status.h"
#include "formats/base/system_calls.h"

namespace rwkv {
namespace {

std::atomic<void (*)(const std::string&)> leftover_listener{nullptr};

void say(const std::string& line) {
  if (auto* const listener = leftover_listener.load()) {
    listener(line);
  }
}

// "123" or "123-4", as OutputFile writes it.
bool is_process_part(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  const size_t n_digits = std::min(text.find_first_not_of(kDigits), text.size());
  if (n_digits == 0 || n_digits == text.size()) {
    return n_digits > 0;
  }
  const std::string_view counter = text.substr(n_digits + 1);
  return text[n_digits] == '-' && !counter.empty() &&
         counter.find_first_not_of(kDigits) == std::string_view::npos;
}

bool is_leftover(std::string_view file, std::string_view name) {
  const size_t mark = file.rfind(kUnfinished);
  return mark != std::string_view::npos && mark > 0 &&
         (name.empty() || file.substr(0, mark) == name) &&
         is_process_part(file.substr(mark + std::strlen(kUnfinished)));
}

// Removes one such file unless it has an owner.
void remove_leftover(const std::string& path) {
  // For writing, since some network file systems want that for a lock.
  const int fd = open_uninterrupted(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    if (errno != ENOENT && errno != ELOOP && errno != EISDIR) {
      say(fmt::format("{}: perhaps left by a process that was killed; it cannot be opened ({})",
                      path, std::strerror(errno)));
    }
    return;
  }
  struct stat info = {};
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    const int error = try_lock(fd);
    if (error == 0 && ::unlink(path.c_str()) == 0) {
      say(fmt::format("removed {} ({} bytes), left by a process that was killed", path,
                      static_cast<uint64_t>(info.st_size)));
    } else if (error == 0 && errno != ENOENT) {
      say(fmt::format("{}: left by a process that was killed, and cannot be removed ({})", path,
                      std::strerror(errno)));
    } else if (error != 0 && error != EWOULDBLOCK) {
      say(fmt::format(
          "{}: perhaps left by a process that was killed; remove it if nobody writes it", path));
    }
  }
  ::close(fd);
}

}  // namespace

void remove_leftovers(const std::string& folder, const std::string& name) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  std::vector<std::string> found;
  while (entries) {
    const dirent* const entry = ::readdir(entries.get());
    if (entry == nullptr) {
      break;
    }
    if (is_leftover(entry->d_name, name)) {
      found.push_back(folder + "/" + entry->d_name);
    }
  }
  for (const std::string& path : found) {
    remove_leftover(path);
  }
}

void set_leftover_listener(void (*listener)(const std::string& line)) {
  leftover_listener.store(listener);
}

}  // namespace rwkv

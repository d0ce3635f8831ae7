#include "compressor/sweep/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <sstream>
#include <thread>

#include "compressor/sweep/files.h"
#include "compressor/sweep/folder.h"
#include "compressor/sweep/process.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostBytes = 256 << 10;
constexpr size_t kMostCounted = 10'000;
constexpr int kTries = 250;
constexpr auto kBetweenTries = std::chrono::milliseconds(20);

// What the file says: a line of JSON about the sweep, and one for each process that joined it.
struct Content {
  std::string configuration;  ///< empty: nothing that can be read
  std::string origin;
  Json worker;  ///< the last one that lives on this machine, else the last one
};

std::string text_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

bool lives_here(const Json& worker) {
  const auto pid = worker.find("pid");
  const std::string start = text_at(worker, "start");
  return text_at(worker, "host") == this_host() && pid != worker.end() &&
         pid->is_number_integer() && !start.empty() && start_of(pid->get<int64_t>()) == start;
}

Content read_content(int fd) {
  std::string text(kMostBytes, '\0');
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  std::istringstream lines(text);
  Content content;
  for (std::string line; std::getline(lines, line);) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      continue;
    }
    if (json.contains("configuration")) {
      content.configuration = text_at(json, "configuration");
      content.origin = text_at(json, "file");
    } else if (lives_here(json) || !lives_here(content.worker)) {
      content.worker = json;
    }
  }
  return content;
}

// A write that failed may have left nothing in the lock; the manifest has the hash as well.
Content read_content(int fd, const SweepFolder& folder) {
  Content content = read_content(fd);
  if (content.configuration.empty()) {
    const auto manifest = read_json(folder.manifest());
    if (manifest.ok()) {
      content.configuration = text_at(manifest.value(), "configuration");
      content.origin = folder.manifest();
    }
  }
  return content;
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts = {};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts)};
}

std::string line_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string worker_line(const SweepLock::Owner& owner) {
  const auto pid = static_cast<int64_t>(::getpid());
  return line_of({{"host", this_host()},
                  {"pid", pid},
                  {"start", start_of(pid)},
                  {"since", now()},
                  {"shard", owner.shard}});
}

bool append(int fd, const std::string& text) {
  return ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// Begins the file anew. Needs the lock for itself alone.
Status begin_content(int fd, const std::string& path, const SweepLock::Owner& owner) {
  const std::string text =
      line_of({{"configuration", owner.configuration}, {"file", owner.origin}}) +
      worker_line(owner);
  if (::ftruncate(fd, 0) != 0 || !append(fd, text)) {
    return failed("{}: cannot write: {}", path, std::strerror(errno));
  }
  return {};
}

// "process 12 on HOST since TIME, part 1/2, of s.yaml (configuration HASH)".
std::string name_of(const Content& content) {
  const Json& worker = content.worker;
  std::string text =
      worker.is_object() && worker.contains("pid")
          ? fmt::format("process {} on {} since {}", worker["pid"].dump(),
                        text_at(worker, "host").substr(0, text_at(worker, "host").find('/')),
                        text_at(worker, "since"))
          : "a process";
  return text + fmt::format(", of {} (configuration {})", content.origin, content.configuration);
}

// "3 of 8 points are finished": of those that were begun.
std::string count_points(const SweepFolder& folder) {
  size_t n = 0;
  size_t n_done = 0;
  std::error_code error;
  for (fs::directory_iterator at(folder.path() + "/points", error), end;
       !error && at != end && n < kMostCounted; at.increment(error)) {
    ++n;
    n_done += exists((at->path() / "result.json").string()) ? 1 : 0;
  }
  return fmt::format("{} of {} points are finished", n_done, n);
}

Status refuse_living(const std::string& folder, const Content& content) {
  return usage_error(
      "{}: another sweep works in this folder: {}; wait for its end, or choose another folder with "
      "-o",
      folder, name_of(content));
}

// The lock is ours alone: nobody works here. Whether we may.
Status check_remains(const std::string& path, const Content& content, const SweepLock::Owner& owner,
                     bool changed) {
  const SweepFolder folder(path);
  if (content.configuration == owner.configuration) {
    return {};
  }
  const bool is_sweep = !content.configuration.empty() || exists(folder.manifest());
  if (!is_sweep) {
    for (const std::string& own : {folder.points(), folder.shared()}) {
      if (exists(own)) {
        return usage_error(
            "{}: exists and is not of a sweep, which would write and remove files there; choose "
            "another folder with -o",
            own);
      }
    }
    return {};
  }
  if (changed) {
    return {};
  }
  const std::string whose = content.configuration.empty()
                                ? std::string("and nothing there says which")
                                : "left by " + name_of(content);
  return usage_error(
      "{}: holds another sweep, {}; {}; choose another folder with -o, or, if this is the same "
      "sweep with changes, add --changed: points that are still the same are kept, no others are "
      "shown",
      path, whose, count_points(folder));
}

// A file that only we and our like made: no link to a file elsewhere.
Result<int> open_lock(const std::string& path) {
  const int fd =
      ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (fd < 0) {
    return failed("{}: cannot open: {}", path, std::strerror(errno));
  }
  struct stat status = {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return failed("{}: expected a regular file; remove it", path);
  }
  return fd;
}

bool lock(int fd, int how) {
  int result = 0;
  do {
    result = ::flock(fd, how);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

}  // namespace

Result<SweepLock> SweepLock::take(const std::string& folder, const Owner& owner, bool changed) {
  const std::string path = SweepFolder(folder).lock();
  RWKV_ASSIGN(const int fd, open_lock(path));
  SweepLock taken(path, owner.configuration, fd);
  for (int i = 0; i < kTries; ++i) {
    if (lock(fd, LOCK_EX | LOCK_NB)) {
      RWKV_TRY(check_remains(folder, read_content(fd, SweepFolder(folder)), owner, changed));
      RWKV_TRY(begin_content(fd, path, owner));
      // Another process may come in between, so what holds is read again.
      if (lock(fd, LOCK_SH) && read_content(fd).configuration == owner.configuration) {
        return taken;
      }
    } else if (errno != EWOULDBLOCK) {
      return failed("{}: cannot lock: {}; choose a folder on a file system with locks", path,
                    std::strerror(errno));
    } else if (lock(fd, LOCK_SH | LOCK_NB)) {
      const Content content = read_content(fd);
      if (content.configuration != owner.configuration) {
        return refuse_living(folder, content);
      }
      struct stat status = {};
      if (::fstat(fd, &status) == 0 && static_cast<size_t>(status.st_size) < kMostBytes / 2 &&
          !append(fd, worker_line(owner))) {
        return failed("{}: cannot write: {}", path, std::strerror(errno));
      }
      return taken;
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
  return refuse_living(folder, read_content(fd));
}

SweepLock::SweepLock(SweepLock&& other) noexcept
    : path_(std::move(other.path_)),
      configuration_(std::move(other.configuration_)),
      fd_(std::exchange(other.fd_, -1)) {}

SweepLock::~SweepLock() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

bool SweepLock::is_last() {
  return lock(fd_, LOCK_EX | LOCK_NB) && read_content(fd_).configuration == configuration_;
}

}  // namespace rwkv::press

#include "compressor/tools/run_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>

#include "formats/base/printable.h"
#include "formats/base/system_calls.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"

namespace rwkv::press {
namespace {

constexpr std::string_view kBegins = "{\"event\":\"start\",";

// Whether an open file is empty, begins like a log, or is no file on a disk. A log may have ended
// within its first line: the disk was full.
bool may_be_written(int fd) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0 || S_ISDIR(status.st_mode)) {
    return false;
  }
  if (!S_ISREG(status.st_mode) || status.st_size == 0) {
    return true;
  }
  std::array<char, kBegins.size()> begin{};
  const ssize_t n = uninterrupted([&] { return ::pread(fd, begin.data(), begin.size(), 0); });
  return n > 0 && kBegins.substr(0, static_cast<size_t>(n)) ==
                      std::string_view(begin.data(), static_cast<size_t>(n));
}

}  // namespace

void RunLog::declare(cxxopts::Options& options) {
  options.add_options()("json-log", "Write what happens to this file, one JSON object per line",
                        cxxopts::value<std::string>(), "FILE");
}

Result<std::unique_ptr<RunLog>> RunLog::from(const cxxopts::ParseResult& arguments, bool appends) {
  std::unique_ptr<RunLog> log(new RunLog());
  if (arguments.count("json-log") == 0) {
    return log;
  }
  RWKV_ASSIGN(log->path_, cli::required(arguments, "json-log"));
  const char* const path = log->path_.c_str();
  // A pipe takes no reading; a file is read before it is written.
  log->fd_ = open_uninterrupted(path, O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0666);
  if (log->fd_ < 0) {
    log->fd_ = open_uninterrupted(path, O_WRONLY | O_CLOEXEC | O_APPEND);
  }
  if (log->fd_ < 0) {
    return failed("{}: cannot open for the log: {}", log->path_, std::strerror(errno));
  }
  if (!may_be_written(log->fd_)) {
    return usage_error(
        "{}: expected a log of rwkv-press or no file, found another file; choose "
        "another name for --json-log",
        log->path_);
  }
  struct stat status = {};
  if (!appends && ::fstat(log->fd_, &status) == 0 && S_ISREG(status.st_mode) &&
      ::ftruncate(log->fd_, 0) != 0) {
    return failed("{}: cannot empty the log: {}", log->path_, std::strerror(errno));
  }
  return log;
}

RunLog::~RunLog() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

void RunLog::write(const char* event, const nlohmann::ordered_json& fields) {
  if (fd_ < 0) {
    return;
  }
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  nlohmann::ordered_json line = {{"event", event}, {"time", now.count()}};
  line.update(fields);
  std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t n = uninterrupted([&] { return ::write(fd_, rest.data(), rest.size()); });
    if (n <= 0) {
      cli::print(stderr, "rwkv-press: warning: {}: cannot write the log, which ends here: {}\n",
                 printable(path_), std::strerror(errno));
      ::close(fd_);
      fd_ = -1;
      return;
    }
    rest.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace rwkv::press

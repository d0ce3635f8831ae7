#include "tests/cli/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <stdexcept>

namespace rwkv::test {
namespace {

using Clock = std::chrono::steady_clock;

// What the child exits with before exec; no documented code of ours, nor of a shell.
constexpr int kCannotMount = 125;
constexpr int kCannotStart = 124;
constexpr int kPollMs = 5;

struct Pipe {
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw std::runtime_error("cannot make a pipe");
    }
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_end(size_t i) {
    if (ends[i] >= 0) {
      ::close(ends[i]);
      ends[i] = -1;
    }
  }
  std::array<int, 2> ends{};
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) {
    result.push_back(string.data());
  }
  result.push_back(nullptr);
  return result;
}

bool mount_tiny_disk(const char* folder, const char* size_option) {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", folder, "tmpfs", 0, size_option) == 0;
}

// Between fork and exec: system calls only, everything else was prepared before.
struct Child {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  std::optional<rlimit> file_limit;
  const char* disk_folder = nullptr;
  std::string disk_size;

  [[noreturn]] void start(int out, int err) const {
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    if (file_limit) {
      ::setrlimit(RLIMIT_FSIZE, &*file_limit);
    }
    if (disk_folder && !mount_tiny_disk(disk_folder, disk_size.c_str())) {
      ::_exit(kCannotMount);
    }
    ::execve(arguments[0], arguments.data(), environment.data());
    ::_exit(kCannotStart);
  }
};

// False at the end of the stream.
bool read_some(int fd, std::string& to) {
  std::array<char, 65536> buffer{};
  const ssize_t n = ::read(fd, buffer.data(), buffer.size());
  if (n > 0) {
    to.append(buffer.data(), static_cast<size_t>(n));
  }
  return n > 0 || (n < 0 && errno == EINTR);
}

void collect_output(pid_t child, Pipe& out, Pipe& err, const RunOptions& options, Run& result) {
  const auto start = Clock::now();
  bool wants_meanwhile = static_cast<bool>(options.meanwhile);
  std::array<pollfd, 2> polled = {{{out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}}};
  std::string* const texts[] = {&result.out, &result.err};
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    ::poll(polled.data(), polled.size(), wants_meanwhile ? kPollMs : 100);
    for (size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].fd >= 0 && polled[i].revents != 0 && !read_some(polled[i].fd, *texts[i])) {
        polled[i].fd = -1;
      }
    }
    wants_meanwhile = wants_meanwhile && !options.meanwhile(child);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (!result.timed_out && seconds > options.time_limit_s) {
      result.timed_out = true;
      ::kill(child, SIGKILL);
    }
  }
}

std::string last_line(const std::string& text) {
  if (text.empty() || text.back() != '\n') {
    return "";
  }
  const size_t end = text.size() - 1;
  const size_t newline = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
  const size_t begin = newline == std::string::npos ? 0 : newline + 1;
  return text.substr(begin, end - begin);
}

size_t count(std::string_view text, std::string_view part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) {
    ++n;
  }
  return n;
}

std::string report(const Run& run) {
  return fmt::format("{}\nexit code {}, signal {}{}\nstderr: {}\nstdout: {}", run.command,
                     run.exit_code, run.signal, run.timed_out ? ", timed out" : "", run.err,
                     run.out.substr(0, 2000));
}

}  // namespace

Run run(const std::vector<std::string>& words, const RunOptions& options) {
  std::vector<std::string> arguments = words;
  std::vector<std::string> environment;
  for (char** variable = environ; *variable; ++variable) {
    environment.emplace_back(*variable);
  }
  // The first of equal names counts.
  environment.insert(environment.begin(), options.environment.begin(), options.environment.end());
  Child child{pointers(arguments), pointers(environment), {}, nullptr, {}};
  if (options.max_file_bytes) {
    child.file_limit = rlimit{*options.max_file_bytes, *options.max_file_bytes};
  }
  if (options.tiny_disk) {
    child.disk_folder = options.tiny_disk->folder.c_str();
    child.disk_size = fmt::format("size={}", options.tiny_disk->bytes);
  }
  Run result;
  result.command = fmt::format("{}", fmt::join(words, " "));
  Pipe out, err;
  const pid_t pid = ::fork();
  if (pid < 0) {
    throw std::runtime_error("cannot fork");
  }
  if (pid == 0) {
    child.start(out.ends[1], err.ends[1]);
  }
  out.close_end(1);
  err.close_end(1);
  collect_output(pid, out, err, options, result);
  int status = 0;
  rusage usage{};
  while (::wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.peak_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  if (result.exit_code == kCannotStart) {
    throw std::runtime_error("cannot start " + words[0]);
  }
  return result;
}

std::string program_path(std::string_view name) {
  return fmt::format("{}/{}", RWKV_BIN_DIR, name);
}

Run edge(std::vector<std::string> arguments, const RunOptions& options) {
  arguments.insert(arguments.begin(), program_path("rwkv-edge"));
  return run(arguments, options);
}

Run press(std::vector<std::string> arguments, const RunOptions& options) {
  arguments.insert(arguments.begin(), program_path("rwkv-press"));
  return run(arguments, options);
}

bool can_mount(std::string_view what) {
  static const bool works = [] {
    const ScratchFolder folder;
    const RunOptions options{.tiny_disk = TinyDisk{folder.path().string(), 65536}};
    return run({"/bin/sh", "-c", "exit 0"}, options).exit_code == 0;
  }();
  if (!works) {
    fmt::print(stderr, "SKIPPED {}: this user may not mount a file system\n", what);
  }
  return works;
}

const Run& check_fine(const Run& run) {
  INFO(report(run));
  REQUIRE(run.exit_code == 0);
  CHECK(run.err.find("error") == std::string::npos);
  return run;
}

void check_refused(const Run& run, int exit_code, const std::vector<std::string>& words) {
  INFO(report(run));
  CHECK_FALSE(run.timed_out);
  CHECK(run.signal == 0);
  CHECK(run.exit_code == exit_code);
  const std::string program = run.command.substr(0, run.command.find(' '));
  const std::string prefix = program.substr(program.rfind('/') + 1) + ": error: ";
  const std::string line = last_line(run.err);
  CHECK(line.starts_with(prefix));
  CHECK(line.size() > prefix.size() + 8);
  CHECK(count(run.err, prefix) == 1);
  CHECK(std::none_of(line.begin(), line.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
  for (const std::string& word : words) {
    INFO("wanted in the message: " << word);
    CHECK(line.find(word) != std::string::npos);
  }
}

bool is_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto at = [&](size_t k) {
      return k < text.size() ? static_cast<uint32_t>(static_cast<unsigned char>(text[k])) : 0;
    };
    const uint32_t first = at(i);
    const size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if ((first >= 0x80 && first < 0xc2) || first > 0xf4) {
      return false;
    }
    uint32_t code = length == 1 ? first : first & (0x7fu >> length);
    for (size_t k = 1; k < length; ++k) {
      if ((at(i + k) & 0xc0) != 0x80) {
        return false;
      }
      code = code << 6 | (at(i + k) & 0x3f);
    }
    constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      return false;
    }
    i += length;
  }
  return true;
}

}  // namespace rwkv::test

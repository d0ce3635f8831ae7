#include "compressor/stages/watched_shell.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>

#include "compressor/stages/pipe.h"

namespace rwkv::press {
namespace {

constexpr const char* kShell = "/bin/sh";
// Processes whose parent ended become children of the watcher, which is their reaper.
constexpr const char* kOwnChildren = "/proc/thread-self/children";
// A process that hangs in the kernel cannot be waited for.
constexpr int kMostRounds = 2000;
constexpr int kMillisecondsPerRound = 1;

// What the new processes need, made before fork(): after it only system calls are allowed, since
// another thread may have held a lock.
struct Prepared {
  std::vector<std::string> texts;  ///< of the environment
  std::vector<char*> environment;
  std::array<const char*, 4> arguments{};
};

void prepare(const std::string& command,
             const std::vector<std::pair<std::string, std::string>>& variables,
             Prepared& prepared) {
  for (const auto& [name, value] : variables) {
    prepared.texts.push_back(name + "=" + value);
  }
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const bool is_replaced =
        std::any_of(variables.begin(), variables.end(),
                    [&](const auto& variable) { return text.starts_with(variable.first + "="); });
    if (!is_replaced) {
      prepared.texts.push_back(text);
    }
  }
  for (std::string& text : prepared.texts) {
    prepared.environment.push_back(text.data());
  }
  prepared.environment.push_back(nullptr);
  prepared.arguments = {"sh", "-c", command.c_str(), nullptr};
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  ::sigaction(signal, &action, nullptr);
}

void wake_up(int /*signal*/) {}

// The command itself.
[[noreturn]] void become_shell(pid_t watcher, const Prepared& prepared) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != watcher) {
    ::_exit(1);  // the watcher died in the meantime
  }
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  ::close_range(STDERR_FILENO + 1, UINT_MAX, 0);
  for (const int signal : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ, SIGCHLD}) {
    handle(signal, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(kShell, const_cast<char**>(prepared.arguments.data()), prepared.environment.data());
  ::_exit(127);
}

// Kills the children that the kernel lists; theirs become ours by that.
void kill_listed_children() {
  const int fd = ::open(kOwnChildren, O_RDONLY);
  std::array<char, 4096> text{};
  const ssize_t n = fd < 0 ? 0 : ::read(fd, text.data(), text.size());
  ::close(fd);
  pid_t pid = 0;
  for (ssize_t i = 0; i < n; ++i) {
    const char c = text[static_cast<size_t>(i)];
    if (c >= '0' && c <= '9') {
      pid = 10 * pid + (c - '0');
    } else {
      if (pid > 0) {
        ::kill(pid, SIGKILL);
      }
      pid = 0;
    }
  }
}

void end_children() {
  for (int round = 0; round < kMostRounds; ++round) {
    kill_listed_children();
    pid_t ended = 0;
    do {
      ended = ::waitpid(-1, nullptr, WNOHANG);
    } while (ended > 0);
    if (ended < 0 && errno == ECHILD) {
      return;
    }
    ::poll(nullptr, 0, kMillisecondsPerRound);
  }
}

// Waits for the end of the command or of our parent, whose end of the pipe `life` closes with it.
// Then ends all that is left. The command is not reaped before its group is killed: as long as it
// is a zombie, no other process can have its number.
[[noreturn]] void watch(const Pipe& of_parent, const Pipe& to_parent, const Prepared& prepared) {
  const int life = of_parent.read;
  const int report = to_parent.write;
  ::close(of_parent.write);
  ::close(to_parent.read);
  ::setpgid(0, 0);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const int low = std::min(life, report);
  const int high = std::max(life, report);
  if (low > STDERR_FILENO + 1) {
    ::close_range(STDERR_FILENO + 1, static_cast<unsigned>(low - 1), 0);
  }
  if (high > low + 1) {
    ::close_range(static_cast<unsigned>(low + 1), static_cast<unsigned>(high - 1), 0);
  }
  ::close_range(static_cast<unsigned>(high + 1), UINT_MAX, 0);
  // Our parent's handlers are for its own files.
  for (const int signal : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) {
    handle(signal, SIG_IGN);
  }
  handle(SIGCHLD, wake_up);
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child, nullptr);
  const pid_t watcher = ::getpid();
  const pid_t command = ::fork();
  if (command == 0) {
    become_shell(watcher, prepared);
  }
  if (command < 0) {
    ::_exit(1);
  }
  ::setpgid(command, command);
  sigset_t none;
  ::sigemptyset(&none);
  pollfd parent = {life, POLLIN, 0};
  siginfo_t ended = {};
  while (ended.si_pid == 0 && parent.revents == 0) {
    ::ppoll(&parent, 1, nullptr, &none);
    ::waitid(P_PID, static_cast<id_t>(command), &ended, WEXITED | WNOHANG | WNOWAIT);
  }
  ::kill(-command, SIGKILL);
  int status = 0;
  ::waitpid(command, &status, 0);
  end_children();
  const ssize_t written = ::write(report, &status, sizeof(status));
  ::_exit(written == sizeof(status) ? 0 : 1);
}

Status explain(int status) {
  if (WIFSIGNALED(status)) {
    return failed("the command was ended by signal {}", WTERMSIG(status));
  }
  return WEXITSTATUS(status) == 0
             ? Status()
             : failed("the command failed with exit code {}", WEXITSTATUS(status));
}

}  // namespace

Status run_watched(const std::string& command,
                   const std::vector<std::pair<std::string, std::string>>& variables) {
  Prepared prepared;
  prepare(command, variables, prepared);
  RWKV_ASSIGN(const Pipe life, make_pipe());
  auto report = make_pipe();
  if (!report.ok()) {
    close_both(life);
    return report.status();
  }
  const pid_t watcher = ::fork();
  if (watcher == 0) {
    watch(life, report.value(), prepared);
  }
  const int error = errno;
  ::close(life.read);
  ::close(report.value().write);
  int status = 0;
  ssize_t n = 0;
  if (watcher > 0) {
    do {
      n = ::read(report.value().read, &status, sizeof(status));
    } while (n < 0 && errno == EINTR);
    while (::waitpid(watcher, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  ::close(life.write);
  ::close(report.value().read);
  if (watcher < 0) {
    return failed("cannot start a process for the command: {}", std::strerror(error));
  }
  return n == sizeof(status) ? explain(status)
                             : failed("the process that watches the command was killed");
}

}  // namespace rwkv::press

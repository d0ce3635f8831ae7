#include "tests/cli/terminal.h"

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>

#include "tests/cli/run.h"
#include "tests/support/catch.h"

namespace rwkv::test {
namespace {

constexpr std::chrono::seconds kPatience(20);
// The program asks for marked pastes before it reads a message, and no longer after it.
constexpr const char* kReadingBegins = "\x1b[?2004h";
constexpr const char* kReadingEnds = "\x1b[?2004l";

}  // namespace

Terminal::Terminal(const std::vector<std::string>& arguments, unsigned short columns)
    : Terminal(executable("rwkv-edge"), arguments, columns) {}

Terminal::Terminal(const std::string& program, const std::vector<std::string>& arguments,
                   unsigned short columns) {
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  winsize size = {24, columns, 0, 0};
  pid_ = ::forkpty(&fd_, nullptr, nullptr, &size);
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    ::setenv("TERM", "xterm", 1);
    ::unsetenv("COLUMNS");
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
}

Terminal::~Terminal() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(fd_);
}

void Terminal::type(const std::string& bytes) const {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd_, bytes.data() + done, bytes.size() - done);
    REQUIRE(n > 0);
    done += static_cast<size_t>(n);
  }
}

void Terminal::resize(unsigned short columns) const {
  const winsize size = {24, columns, 0, 0};
  REQUIRE(::ioctl(fd_, TIOCSWINSZ, &size) == 0);
}

bool Terminal::read_some() {
  pollfd input = {fd_, POLLIN, 0};
  if (::poll(&input, 1, 20) <= 0) {
    return is_open_;
  }
  char bytes[4096];
  const ssize_t n = ::read(fd_, bytes, sizeof(bytes));
  is_open_ = n > 0;  // on Linux a read fails when the other side is closed
  screen_.append(bytes, static_cast<size_t>(std::max<ssize_t>(n, 0)));
  return is_open_;
}

template <typename Condition>
bool Terminal::wait_until(const Condition& is_so) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!is_so()) {
    if (!read_some() || std::chrono::steady_clock::now() > deadline) {
      return is_so();
    }
  }
  return true;
}

size_t Terminal::n_prompts() const {
  size_t n = 0;
  for (size_t at = screen_.find(kReadingBegins); at != std::string::npos;
       at = screen_.find(kReadingBegins, at + 1)) {
    // The prompt itself follows.
    n += screen_.find("> ", at) != std::string::npos ? 1 : 0;
  }
  return n;
}

bool Terminal::reaches_prompt(size_t n) {
  return wait_until([&] { return n_prompts() >= n; });
}

std::string Terminal::answer() const {
  const size_t end = screen_.rfind(kReadingEnds);
  if (end == std::string::npos) {
    return {};
  }
  const size_t begin = end + std::string(kReadingEnds).size();
  const size_t next = screen_.find(kReadingBegins, begin);
  return screen_.substr(begin, next == std::string::npos ? next : next - begin);
}

bool Terminal::shows_answer(size_t n_bytes) {
  return wait_until([&] { return answer().size() >= n_bytes; });
}

bool Terminal::shows(const std::string& text) {
  return wait_until([&] { return screen_.find(text) != std::string::npos; });
}

bool Terminal::shows_more() {
  const size_t before = screen_.size();
  return wait_until([&] { return screen_.size() > before; });
}

std::string Terminal::ask(const std::string& message) {
  const size_t n = n_prompts();
  type(message + "\r");
  INFO(screen_);
  REQUIRE(reaches_prompt(n + 1));
  return answer();
}

int Terminal::wait() {
  INFO(screen_);
  REQUIRE((wait_until([&] { return !is_open_; }) && !is_open_));
  int status = 0;
  REQUIRE(::waitpid(pid_, &status, 0) == pid_);
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace rwkv::test
